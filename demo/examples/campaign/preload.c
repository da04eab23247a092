/* Loaded into the agent (LD_PRELOAD), which is otherwise the program as it ships. It turns two things that a test may
 * not turn for the whole machine: the clocks, and what a power cut leaves of the disk.
 *
 * Clocks: CLOCK_REALTIME and CLOCK_BOOTTIME are shifted, adjtimex() tells what the page says, and the kernel's boot id
 * is read from another file. Programs read clocks through the kernel's vDSO without a call that could be answered, so
 * its first instructions are replaced by a jump.
 *
 * Disk: after each fsync or fdatasync that returned, CAMPAIGN_DISK is copied. The last whole copy is what a power cut
 * leaves: all that was synced, and nothing of what was written after. It may hold more than a real disk would (what
 * was written before the sync and not asked for), never less.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

/* The campaign writes all but the last two; see preload.rs. */
struct page {
    _Atomic int64_t real_ns, boot_ns; /* added to the clocks */
    _Atomic int64_t synced;           /* whether somebody vouches for real time */
    _Atomic int64_t sync_lies;        /* syncing does nothing and says that it did */
    _Atomic int64_t image;            /* the copy that is whole: 1 or 2; 0 before the first */
    _Atomic int64_t active;           /* the clocks are turned */
};
static struct page *page;

#define BILLION 1000000000LL

static int turned_clock_gettime(clockid_t clock, struct timespec *at) {
    if (syscall(SYS_clock_gettime, clock, at) != 0) return -errno;
    int64_t by = 0;
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) by = page->real_ns;
    if (clock == CLOCK_BOOTTIME) by = page->boot_ns;
    int64_t ns = at->tv_sec * BILLION + at->tv_nsec + by;
    if (ns < 0) ns = 0;
    at->tv_sec = ns / BILLION, at->tv_nsec = ns % BILLION;
    return 0;
}

static int turn_clocks(void) {
    void *vdso = dlopen("linux-vdso.so.1", RTLD_LAZY | RTLD_NOLOAD);
    if (!vdso) return 0;
#if defined(__x86_64__)
    unsigned char jump[12] = {0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0}; /* movabs $to, %rax; jmp *%rax */
    unsigned char *code = dlsym(vdso, "__vdso_clock_gettime");
    size_t hole = 2;
#elif defined(__aarch64__)
    unsigned char jump[16] = {0x50, 0, 0, 0x58, 0, 2, 0x1f, 0xd6}; /* ldr x16, .+8; br x16; .quad to */
    unsigned char *code = dlsym(vdso, "__kernel_clock_gettime");
    size_t hole = 8;
#else
    return 0;
#endif
    if (!code) return 0;
    uint64_t to = (uint64_t)turned_clock_gettime;
    memcpy(jump + hole, &to, sizeof to);
    /* What the kernel maps privately may be made writable, as a debugger would; this mapping only as a whole. */
    unsigned long begin = 0, end = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    for (char line[512]; maps && fgets(line, sizeof line, maps);)
        if (strstr(line, "[vdso]") && sscanf(line, "%lx-%lx", &begin, &end) == 2) break;
    if (maps) fclose(maps);
    if (!end || mprotect((void *)begin, end - begin, PROT_READ | PROT_WRITE | PROT_EXEC) != 0) return 0;
    memcpy(code, jump, sizeof jump);
    __builtin___clear_cache((char *)code, (char *)code + sizeof jump);
    return 1;
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CAMPAIGN_PAGE");
    int fd = path ? syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0) : -1;
    if (fd < 0) return;
    void *at = mmap(NULL, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at == MAP_FAILED) return;
    page = at;
    page->active = turn_clocks();
}

int adjtimex(struct timex *told) {
    if (!page || told->modes) return syscall(SYS_adjtimex, told);
    memset(told, 0, sizeof *told);
    told->status = page->synced ? 0 : STA_UNSYNC;
    told->maxerror = page->synced ? 10000 : 16000000;
    told->esterror = page->synced ? 1000 : 16000000;
    return page->synced ? TIME_OK : TIME_ERROR;
}

static const char *redirected(const char *path) {
    const char *other = getenv("CAMPAIGN_BOOT_ID");
    return other && !strcmp(path, "/proc/sys/kernel/random/boot_id") ? other : path;
}

int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, int) : 0;
    va_end(more);
    return syscall(SYS_openat, AT_FDCWD, redirected(path), flags, mode);
}

static void remove_all(int dir, const char *name) {
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        unlinkat(dir, name, 0);
        return;
    }
    DIR *entries = fdopendir(fd);
    for (struct dirent *entry; entries && (entry = readdir(entries));)
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) remove_all(dirfd(entries), entry->d_name);
    if (entries) closedir(entries);
    unlinkat(dir, name, AT_REMOVEDIR);
}

static int copy_file(int from, int to, const char *name) {
    static char buffer[1 << 16];
    int in = openat(from, name, O_RDONLY | O_CLOEXEC);
    if (in < 0) return errno == ENOENT; /* removed meanwhile, by another thread */
    int out = openat(to, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    ssize_t got = -1;
    while (out >= 0 && (got = read(in, buffer, sizeof buffer)) > 0)
        if (write(out, buffer, got) != got) got = -2;
    close(in);
    if (out >= 0) close(out);
    return got == 0;
}

static int copy_all(int from, int to) {
    DIR *entries = fdopendir(dup(from));
    if (!entries) return 0;
    rewinddir(entries);
    int whole = 1;
    for (struct dirent *entry; whole && (entry = readdir(entries));) {
        const char *name = entry->d_name;
        if (!strcmp(name, ".") || !strcmp(name, "..") || !strcmp(name, "ballast")) continue;
        if (entry->d_type == DT_REG) {
            whole = copy_file(from, to, name);
        } else if (entry->d_type == DT_DIR) {
            int below = openat(from, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            if (below < 0) continue;
            mkdirat(to, name, 0755);
            int copy = openat(to, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            whole = copy >= 0 && copy_all(below, copy);
            if (copy >= 0) close(copy);
            close(below);
        }
    }
    closedir(entries);
    return whole;
}

static void keep_image(void) {
    static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
    const char *disk = getenv("CAMPAIGN_DISK"), *images = getenv("CAMPAIGN_IMAGES");
    if (!page || !disk || !images) return;
    pthread_mutex_lock(&one_at_a_time);
    int64_t next = page->image == 1 ? 2 : 1;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%lld", images, (long long)next);
    remove_all(AT_FDCWD, path);
    mkdir(path, 0755);
    int from = open(disk, O_RDONLY | O_DIRECTORY | O_CLOEXEC), to = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (from >= 0 && to >= 0 && copy_all(from, to)) page->image = next;
    if (from >= 0) close(from);
    if (to >= 0) close(to);
    pthread_mutex_unlock(&one_at_a_time);
}

int fsync(int fd) {
    if (page && page->sync_lies) return 0;
    int failed = syscall(SYS_fsync, fd);
    if (!failed) keep_image();
    return failed;
}

int fdatasync(int fd) {
    if (page && page->sync_lies) return 0;
    int failed = syscall(SYS_fdatasync, fd);
    if (!failed) keep_image();
    return failed;
}
