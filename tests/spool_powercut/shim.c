// Traces what a process writes, syncs and renames below $POWERCUT_ROOT into $POWERCUT_TRACE. Preloaded.
// A record: op, inode u64, offset u64, length u64, then length bytes: data, or a path, or two with a NUL in between.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FDS 65536
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int trace = -1;
static uint64_t inode_of[FDS]; // 0: not below the root
static char is_dir[FDS];

static const char *root(void) { return getenv("POWERCUT_ROOT"); }

static void put(char op, uint64_t inode, uint64_t offset, const void *data, uint64_t length) {
    char head[25];
    head[0] = op;
    memcpy(head + 1, &inode, 8);
    memcpy(head + 9, &offset, 8);
    memcpy(head + 17, &length, 8);
    pthread_mutex_lock(&mutex);
    if (trace < 0 && getenv("POWERCUT_TRACE"))
        trace = syscall(SYS_openat, AT_FDCWD, getenv("POWERCUT_TRACE"), O_CREAT | O_WRONLY | O_APPEND, 0644);
    if (trace >= 0) {
        syscall(SYS_write, trace, head, sizeof head);
        for (uint64_t done = 0; done < length;) {
            long wrote = syscall(SYS_write, trace, (const char *)data + done, length - done);
            if (wrote <= 0) abort();
            done += wrote;
        }
    }
    pthread_mutex_unlock(&mutex);
}

static int below(const char *path) { return root() && strncmp(path, root(), strlen(root())) == 0; }

static void put_path(char op, uint64_t inode, const char *path) {
    if (below(path)) put(op, inode, 0, path, strlen(path));
}

static const char *resolve(int dir, const char *path, char *room) {
    if (path[0] == '/' || dir == AT_FDCWD) return path;
    char link[64] = "/proc/self/fd/", digits[16];
    int n = 0, fd = dir;
    do digits[n++] = '0' + fd % 10; while (fd /= 10);
    int at = strlen(link);
    while (n) link[at++] = digits[--n];
    link[at] = 0;
    long length = readlink(link, room, 4000);
    if (length < 0) return path;
    room[length] = '/';
    strcpy(room + length + 1, path);
    return room;
}

static int open_at(int dir, const char *path, int flags, int mode) {
    int fd = syscall(SYS_openat, dir, path, flags | O_LARGEFILE, mode);
    char room[8192];
    const char *full = resolve(dir, path, room);
    if (fd >= 0 && fd < FDS) {
        struct stat stat;
        inode_of[fd] = below(full) && fstat(fd, &stat) == 0 ? stat.st_ino : 0;
        is_dir[fd] = inode_of[fd] && S_ISDIR(stat.st_mode);
        if (inode_of[fd] && !is_dir[fd]) {
            put_path('O', inode_of[fd], full);
            if (flags & O_TRUNC) put('T', inode_of[fd], 0, 0, 0);
        } else if (is_dir[fd]) put_path('P', inode_of[fd], full);
    }
    return fd;
}
#define MODE int mode = 0; if (flags & O_CREAT) { va_list a; va_start(a, flags); mode = va_arg(a, int); va_end(a); }
int open(const char *path, int flags, ...) { MODE return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return open_at(AT_FDCWD, path, flags, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE return open_at(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE return open_at(dir, path, flags, mode); }

static int traced(int fd) { return fd >= 0 && fd < FDS && inode_of[fd]; }
// Told when it is done: a sync that began before does not count for it.
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
    ssize_t wrote = syscall(SYS_pwrite64, fd, data, length, offset);
    if (traced(fd) && wrote > 0) put('W', inode_of[fd], offset, data, wrote);
    return wrote;
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return pwrite64(fd, data, length, offset); }
ssize_t write(int fd, const void *data, size_t length) {
    // A promise counts from before anybody could hear of it.
    if (fd == 1 && length > 2 && memchr("FC", ((const char *)data)[0], 2) && ((const char *)data)[1] == ' ')
        put('A', 0, 0, data, length);
    ssize_t wrote = syscall(SYS_write, fd, data, length);
    if (traced(fd) && wrote > 0) put('W', inode_of[fd], lseek(fd, 0, SEEK_CUR) - wrote, data, wrote);
    return wrote;
}
// Every so many syncs fail, as of a disk that refuses for a moment.
static int fails(void) {
    static _Atomic unsigned long syncs;
    const char *every = getenv("POWERCUT_FAIL_EVERY");
    return every && atol(every) && ++syncs % atol(every) == 0;
}
static int sync_by(int call, int fd) {
    int on = traced(fd);
    if (on && !is_dir[fd] && fails()) {
        put('E', inode_of[fd], 0, 0, 0);
        errno = EIO;
        return -1;
    }
    if (on) put(is_dir[fd] ? 'd' : 's', inode_of[fd], 0, 0, 0);
    int done = syscall(call, fd);
    if (on && done == 0) put(is_dir[fd] ? 'D' : 'S', inode_of[fd], 0, 0, 0);
    return done;
}
int fsync(int fd) { return sync_by(SYS_fsync, fd); }
int fdatasync(int fd) { return sync_by(SYS_fdatasync, fd); }
int ftruncate64(int fd, off64_t length) {
    if (traced(fd)) put('T', inode_of[fd], length, 0, 0);
    return syscall(SYS_ftruncate, fd, length);
}
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }
int rename(const char *from, const char *to) {
    int done = syscall(SYS_rename, from, to);
    if (done == 0 && below(from)) {
        char both[8192];
        size_t length = strlen(from);
        strcpy(both, from);
        strcpy(both + length + 1, to);
        put('R', 0, 0, both, length + 1 + strlen(to));
    }
    return done;
}
int mkdir(const char *path, mode_t mode) {
    int done = syscall(SYS_mkdir, path, mode);
    if (done == 0) put_path('M', 0, path);
    return done;
}
int unlinkat(int dir, const char *path, int flags) {
    char room[8192];
    const char *full = resolve(dir, path, room);
    int done = syscall(SYS_unlinkat, dir, path, flags);
    if (done == 0) put_path('U', 0, full);
    return done;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
// Copies go by read and write, which are seen.
ssize_t copy_file_range(int in, off64_t *a, int out, off64_t *b, size_t n, unsigned f) { errno = ENOSYS; return -1; }
ssize_t sendfile64(int out, int in, off64_t *o, size_t n) { errno = EINVAL; return -1; }
ssize_t sendfile(int out, int in, off_t *o, size_t n) { errno = EINVAL; return -1; }
