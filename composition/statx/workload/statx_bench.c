/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * statx_bench --calls N [--path PATH] [--cgroup NAME] [--hold SECONDS]
 *
 * Calls statx(2) exactly N times from a cgroup of its own, and prints one line of JSON: how many calls, how long one took, and
 * the cgroup, so that a counter kept by cgroup can be compared with the number of calls. The cgroup NAME is made below the one
 * that the process was started in: a service manager still sees and ends the process. --hold stays there for a while after the
 * last call, so that whoever names cgroups from outside has time to see it.
 *
 * Nothing else in this program calls statx, and it is linked statically: no loader runs in the cgroup.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what, const char *on)
{
    fprintf(stderr, "statx_bench: %s %s: %s\n", what, on, strerror(errno));
    exit(1);
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

/* Where cgroup v2 is mounted: the fifth field of its line in mountinfo. */
static void cgroup_mount(char *out, size_t size)
{
    FILE *f = fopen("/proc/self/mountinfo", "re");
    char *line = NULL, point[PATH_MAX];
    size_t room = 0;

    if (!f)
        die("cannot read", "/proc/self/mountinfo");
    while (getline(&line, &room, f) > 0) {
        const char *end = strstr(line, " - cgroup2 ");

        if (end && sscanf(line, "%*s %*s %*s %*s %4095s", point) == 1) {
            snprintf(out, size, "%s", point);
            free(line);
            fclose(f);
            return;
        }
    }
    errno = ENOENT;
    die("no cgroup v2 is mounted, says", "/proc/self/mountinfo");
}

/* Makes NAME below our own cgroup and moves into it; `path` becomes its folder. */
static void enter_cgroup(const char *name, char *path, size_t size)
{
    char mount[PATH_MAX], own[PATH_MAX] = "", procs[PATH_MAX + 16], pid[32];
    FILE *f = fopen("/proc/self/cgroup", "re");
    char *line = NULL;
    size_t room = 0;
    int fd, n;

    if (!f)
        die("cannot read", "/proc/self/cgroup");
    while (getline(&line, &room, f) > 0)
        if (sscanf(line, "0::%4095[^\n]", own) == 1)
            break;
    free(line);
    fclose(f);
    cgroup_mount(mount, sizeof(mount));
    if ((size_t)snprintf(path, size, "%s%s/%s", mount, strcmp(own, "/") ? own : "", name) >= size) {
        errno = ENAMETOOLONG;
        die("cannot make a cgroup", name);
    }
    if (mkdir(path, 0755) && errno != EEXIST)
        die("cannot make the cgroup", path);
    snprintf(procs, sizeof(procs), "%s/cgroup.procs", path);
    fd = open(procs, O_WRONLY | O_CLOEXEC);
    n = snprintf(pid, sizeof(pid), "%d", getpid());
    if (fd < 0 || write(fd, pid, n) != n)
        die("cannot move into", path);
    close(fd);
}

static long number(const char *text, const char *option, long least)
{
    char *end;
    long n;

    errno = 0;
    n = strtol(text, &end, 10);
    if (errno || *end || !*text || n < least) {
        fprintf(stderr, "statx_bench: %s wants a number of at least %ld, not '%s'\n", option, least, text);
        exit(2);
    }
    return n;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"calls", required_argument, NULL, 'n'},
        {"path", required_argument, NULL, 'p'},
        {"cgroup", required_argument, NULL, 'c'},
        {"hold", required_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const char *path = "/etc/hostname", *name = "statx_bench";
    char cgroup[PATH_MAX];
    long calls = 0, failed = 0, hold = 0;
    struct statx answer;
    double begin, took;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'n': calls = number(optarg, "--calls", 1); break;
        case 'p': path = optarg; break;
        case 'c': name = optarg; break;
        case 'h': hold = number(optarg, "--hold", 0); break;
        default: return 2;
        }
    }
    if (!calls || optind != argc || !*name || strchr(name, '/') || *name == '.') {
        fprintf(stderr, "usage: statx_bench --calls N [--path PATH] [--cgroup NAME] [--hold SECONDS]\n");
        return 2;
    }
    enter_cgroup(name, cgroup, sizeof(cgroup));
    begin = seconds();
    for (long i = 0; i < calls; i++)
        failed += syscall(SYS_statx, AT_FDCWD, path, 0, STATX_BASIC_STATS, &answer) != 0;
    took = seconds() - begin;
    printf("{\"calls\": %ld, \"failed\": %ld, \"seconds\": %.6f, \"ns_per_call\": %.1f, \"cgroup\": \"%s\"}\n", calls, failed, took,
           took / calls * 1e9, cgroup);
    fflush(stdout);
    if (hold)
        sleep(hold);
    return failed ? 1 : 0;
}
