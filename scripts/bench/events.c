/* Things that BPF programs watch, done in a tight loop: fastest(NAME, N, REPS) gives the least nanoseconds that one of N took, out of REPS
 * short repetitions on one processor; negative if there is no such event. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/futex.h>
#include <linux/stat.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int pair[2], back[2], file;
static char *page;

static void do_statx(void)
{
    static struct statx buffer;

    syscall(SYS_statx, AT_FDCWD, "/", 0, STATX_BASIC_STATS, &buffer);
}

static void do_read(void)
{
    char buffer[64];

    if (pread(file, buffer, sizeof(buffer), 0) < 0)
        abort();
}

/* Past the page cache: the disk is asked. */
static void do_disk(void)
{
    if (pread(file, page, 4096, 0) != 4096)
        abort();
}

/* Returns at once: the value is another. */
static void do_futex(void)
{
    static int value;

    syscall(SYS_futex, &value, FUTEX_WAIT, 1, NULL);
}

static void do_bpf(void)
{
    union bpf_attr attr = {};

    syscall(SYS_bpf, BPF_PROG_GET_NEXT_ID, &attr, sizeof(attr));
}

static void do_fault(void)
{
    *(volatile char *)page = 1;
    madvise(page, 4096, MADV_DONTNEED);
}

/* A datagram, or a segment and its acknowledgement, over the loopback interface. */
static void do_packet(void)
{
    char byte = 1;

    if (send(pair[0], &byte, 1, 0) != 1 || recv(pair[1], &byte, 1, 0) != 1)
        abort();
}

/* A datagram that its socket has no room for. */
static void do_drop(void)
{
    char byte = 1;

    if (send(pair[0], &byte, 1, 0) != 1)
        abort();
}

static void *echo(void *unused)
{
    char byte;

    while (read(back[0], &byte, 1) == 1 && byte)
        if (write(pair[1], &byte, 1) != 1)
            abort();
    return unused;
}

/* Two changes of threads on one processor. */
static void do_switch(void)
{
    char byte = 1;

    if (write(back[1], &byte, 1) != 1 || read(pair[0], &byte, 1) != 1)
        abort();
}

static void connected(int type)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int one = 1, listening = socket(AF_INET, type, 0);

    if (bind(listening, (void *)&address, length) || getsockname(listening, (void *)&address, &length))
        abort();
    if (type == SOCK_STREAM && listen(listening, 1))
        abort();
    pair[0] = socket(AF_INET, type, 0);
    if (connect(pair[0], (void *)&address, length))
        abort();
    pair[1] = listening;
    if (type == SOCK_STREAM) {
        pair[1] = accept(listening, NULL, NULL);
        setsockopt(pair[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        close(listening);
    }
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

double fastest(const char *name, long n, int reps)
{
    void (*event)(void) = NULL;
    double best = 1e18;
    pthread_t thread;
    cpu_set_t first, before;
    int one = 1;

    sched_getaffinity(0, sizeof(before), &before);
    CPU_ZERO(&first);
    for (int cpu = 0; cpu < CPU_SETSIZE && !CPU_COUNT(&first); cpu++)
        if (CPU_ISSET(cpu, &before))
            CPU_SET(cpu, &first);
    sched_setaffinity(0, sizeof(first), &first);
    if (!strcmp(name, "statx"))
        event = do_statx;
    if (!strcmp(name, "futex"))
        event = do_futex;
    if (!strcmp(name, "bpf"))
        event = do_bpf;
    if (!strcmp(name, "read") || !strcmp(name, "disk")) {
        event = strcmp(name, "read") ? do_disk : do_read;
        file = open("/proc/self/exe", O_RDONLY | (event == do_disk ? O_DIRECT : 0));
    }
    if (!strcmp(name, "fault") || !strcmp(name, "disk")) {
        page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        event = event ? event : do_fault;
    }
    if (!strcmp(name, "udp") || !strcmp(name, "tcp") || !strcmp(name, "drop")) {
        connected(strcmp(name, "tcp") ? SOCK_DGRAM : SOCK_STREAM);
        event = strcmp(name, "drop") ? do_packet : do_drop;
    }
    if (event == do_drop) {
        setsockopt(pair[1], SOL_SOCKET, SO_RCVBUF, &one, sizeof(one));
        for (int i = 0; i < 100; i++) /* until it is full */
            do_drop();
    }
    if (!strcmp(name, "switch")) {
        if (pipe(pair) || pipe(back) || pthread_create(&thread, NULL, echo, NULL))
            abort();
        event = do_switch;
    }
    for (int rep = 0; event && rep < reps; rep++) {
        double begun = now(), took;

        for (long i = 0; i < n; i++)
            event();
        took = (now() - begun) / n;
        if (took < best)
            best = took;
    }
    if (event == do_read || event == do_disk)
        close(file);
    if (event == do_fault || event == do_disk)
        munmap(page, 4096);
    if (event == do_switch) {
        char end = 0;

        if (write(back[1], &end, 1) != 1)
            abort();
        pthread_join(thread, NULL);
        close(back[0]);
        close(back[1]);
    }
    if (event == do_packet || event == do_drop || event == do_switch) {
        close(pair[0]);
        close(pair[1]);
    }
    sched_setaffinity(0, sizeof(before), &before);
    return event ? best : -1;
}
