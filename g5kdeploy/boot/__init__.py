"""Ways onto a kernel: pull a closure, kexec into it, prove what runs."""
