.code16
.globl _start
_start:
 cli
 xor %ax,%ax
 mov %ax,%ds
 mov %ax,%es
 mov %ax,%ss
 mov $0x7000,%sp
 # page tables at 0x1000: pml4, 0x2000: pdpt, 0x3000: pd (2 MiB pages, identity)
 mov $0x1000,%edi
 mov %edi,%cr3
 xor %eax,%eax
 mov $0xc00,%ecx
 cld
 addr32 rep stosl
 movl $0x2003,0x1000
 movl $0x3003,0x2000
 movl $0x83,0x3000
 mov %cr4,%eax
 or $0x20,%eax
 mov %eax,%cr4
 mov $0xc0000080,%ecx
 rdmsr
 or $0x100,%eax
 wrmsr
 mov %cr0,%eax
 or $0x80000001,%eax
 mov %eax,%cr0
 lgdt gdtr
 ljmp $8,$long
.code64
long:
 mov $200000,%ecx
1: cpuid_loop:
 lock addq $1,0x4000
 dec %ecx
 jnz 1b
 mov $200,%ebx
2: xor %eax,%eax
 cpuid
 mov %ebx,%ebx
 mov 0x4008,%rbx
 inc %rbx
 mov %rbx,0x4008
 cmp $200,%rbx
 jb 2b
 mov $0x21,%al
 out %al,$0xf4
3: hlt
 jmp 3b
.align 8
gdt: .quad 0
 .quad 0x00209a0000000000
gdtr: .word 15
 .long gdt
