/* mock_cases MOCKED OTHER: calls statx(2) in every way that the mock must answer rightly, and prints what came back, as JSON:
 * per case the errno (0: success), stx_size and stx_mtime.tv_sec. At the end 100 calls more, unprinted. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int first = 1;

static void call(const char *name, const char *path, unsigned flags, unsigned mask, struct statx *buffer, int print)
{
    long ret = syscall(SYS_statx, AT_FDCWD, path, flags, mask, buffer);
    int error = ret ? errno : 0;

    if (!print)
        return;
    printf("%s\"%s\": [%d, %llu, %lld]", first ? "" : ", ", name, error, error ? 0ULL : (unsigned long long)buffer->stx_size,
           error ? 0LL : (long long)buffer->stx_mtime.tv_sec);
    first = 0;
}

static struct statx *fresh(void)
{
    return mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* The path in a page of a file that nobody has touched through this mapping. */
static const char *cold(const char *path)
{
    int fd = memfd_create("path", 0);
    char *page;

    if (fd < 0 || ftruncate(fd, 4096) || pwrite(fd, path, strlen(path) + 1, 0) < 0)
        exit(1);
    page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    return page;
}

int main(int argc, char **argv)
{
    const char *mocked = argv[1], *other = argv[2];
    char longer[4096];
    struct statx *buffer = fresh(), *shared = fresh();
    int status;

    if (argc != 3)
        return 2;
    printf("{");
    memset(buffer, 0x55, sizeof(*buffer));
    call("mocked", mocked, 0, STATX_BASIC_STATS, buffer, 1);
    call("other", other, 0, STATX_BASIC_STATS, buffer, 1);
    snprintf(longer, sizeof(longer), "%s.longer", mocked);
    call("longer", longer, 0, STATX_BASIC_STATS, buffer, 1);
    snprintf(longer, sizeof(longer), "/%s", mocked);
    call("other_spelling", longer, 0, STATX_BASIC_STATS, buffer, 1);
    call("null_buffer", mocked, 0, STATX_BASIC_STATS, NULL, 1);
    call("null_path", NULL, 0, STATX_BASIC_STATS, buffer, 1);
    call("bad_flags", mocked, 0x40000000, STATX_BASIC_STATS, buffer, 1);
    call("both_sync_flags", mocked, AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC, STATX_BASIC_STATS, buffer, 1);
    call("bad_mask", mocked, 0, 0x80000000u, buffer, 1);
    call("untouched_buffer", mocked, 0, STATX_BASIC_STATS, fresh(), 1);
    call("cold_path", cold(mocked), 0, STATX_BASIC_STATS, buffer, 1);
    memset(shared, 0x55, sizeof(*shared));
    fflush(stdout);
    if (fork() == 0) { /* the child's buffer is a page that it shares with us until it writes */
        call("copy_on_write", mocked, 0, STATX_BASIC_STATS, shared, 1);
        fflush(stdout);
        _exit(0);
    }
    wait(&status);
    for (int i = 0; i < 100; i++)
        call("", mocked, 0, STATX_BASIC_STATS, buffer, 0);
    printf("}\n");
    return status ? 1 : 0;
}
