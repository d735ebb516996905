/* Makes calls of a program fail as a broken disk does. Preloaded; the file that FAULTS names says what
 * fails and in which files: "write", "full" (writes, for which there is no room), "sync" or "read", a space, and a
 * part of their path. Without that file, which a test writes and removes as it likes, nothing does. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* The error that a call fails with; 0 where it does not. */
static int fails(const char *what, int fd) {
    const char *orders = getenv("FAULTS");
    char order[512], name[64], path[4096];
    int file = orders ? syscall(SYS_openat, AT_FDCWD, orders, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return 0;
    ssize_t length = syscall(SYS_read, file, order, sizeof order - 1);
    syscall(SYS_close, file);
    if (length <= 0)
        return 0;
    order[length] = 0;
    char *part = strchr(order, ' ');
    if (!part)
        return 0;
    *part++ = 0;
    int full = strcmp(order, "full") == 0;
    if (strcmp(full ? "write" : order, what) != 0)
        return 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    length = readlink(name, path, sizeof path - 1);
    if (length <= 0)
        return 0;
    path[length] = 0;
    if (!strstr(path, part))
        return 0;
    return full ? ENOSPC : EIO;
}

#define FAILING(what, type, name, parameters, arguments)                                               \
    type name parameters {                                                                             \
        static type(*real) parameters;                                                                 \
        if (!real)                                                                                     \
            real = (type(*) parameters)dlsym(RTLD_NEXT, #name);                                        \
        int error = fails(what, fd);                                                                   \
        if (error) {                                                                                   \
            errno = error;                                                                             \
            return -1;                                                                                 \
        }                                                                                              \
        return real arguments;                                                                         \
    }

FAILING("write", ssize_t, write, (int fd, const void *bytes, size_t count), (fd, bytes, count))
FAILING("write", ssize_t, pwrite, (int fd, const void *bytes, size_t count, off_t at), (fd, bytes, count, at))
FAILING("write", ssize_t, pwrite64, (int fd, const void *bytes, size_t count, off64_t at), (fd, bytes, count, at))
FAILING("sync", int, fsync, (int fd), (fd))
FAILING("sync", int, fdatasync, (int fd), (fd))
FAILING("read", ssize_t, pread, (int fd, void *bytes, size_t count, off_t at), (fd, bytes, count, at))
FAILING("read", ssize_t, pread64, (int fd, void *bytes, size_t count, off64_t at), (fd, bytes, count, at))
