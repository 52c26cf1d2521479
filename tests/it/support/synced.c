/* Keeps, beside each file of a journal, what of it was synced last: all that is left when the machine loses its power.
   A file beside which there is one that ends in ".unsyncable" cannot be synced: its disk fails.
   Stands between a sidecar and its system (LD_PRELOAD). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void keep(int fd) {
    char link[64], path[PATH_MAX], unfinished[PATH_MAX + 16], kept[PATH_MAX + 16], chunk[65536];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1), n;
    if (length < 0) return;
    path[length] = 0;
    if (!strstr(path, "journal.db")) return;
    snprintf(unfinished, sizeof unfinished, "%s.unfinished", path);
    snprintf(kept, sizeof kept, "%s.synced", path);
    int to = open(unfinished, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    /* Not by another descriptor: to close that would give up SQLite's locks. */
    for (off_t at = 0; (n = pread(fd, chunk, sizeof chunk, at)) > 0; at += n)
        if (write(to, chunk, n) != n) break;
    close(to);
    /* Whole, or as it was before. */
    rename(unfinished, kept);
}

static int fails(int fd) {
    char link[64], path[PATH_MAX], mark[PATH_MAX + 16];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    snprintf(mark, sizeof mark, "%s.unsyncable", path);
    return access(mark, F_OK) == 0;
}

static int sync_by(const char *name, int fd) {
    if (fails(fd)) {
        errno = EIO;
        return -1;
    }
    int (*really)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int done = really(fd);
    if (done == 0) keep(fd);
    return done;
}

int fsync(int fd) { return sync_by("fsync", fd); }
int fdatasync(int fd) { return sync_by("fdatasync", fd); }
