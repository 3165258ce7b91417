/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * bystander [PATH]
 *
 * Calls statx(2) some thousand times a second until SIGTERM or SIGINT, then prints how often, as JSON. It is there to be counted apart from others.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/stat.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile sig_atomic_t ended;

static void end(int number)
{
    (void)number;
    ended = 1;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = end};
    const char *path = argc > 1 ? argv[1] : "/etc/hostname";
    struct statx answer;
    unsigned long calls = 0;

    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    while (!ended) {
        syscall(SYS_statx, AT_FDCWD, path, 0, STATX_BASIC_STATS, &answer);
        calls++;
        if (calls % 64 == 0)
            usleep(20000); /* a neighbour, no load test: an emulated machine shall do other things, too */
    }
    printf("{\"calls\": %lu}\n", calls);
    return 0;
}
