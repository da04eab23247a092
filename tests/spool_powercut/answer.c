// Takes the program's answer to sync_file_range away, to show that power cuts are then seen to lose data: linked with
// -Wl,--wrap=sync_file_range into the test, never into the agent.
#define _GNU_SOURCE
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

int __wrap_sync_file_range(int fd, long offset, long bytes, unsigned flags) {
    // What the spool asks before it opens is answered as the agent would.
    if (fd < 0) {
        errno = ENOSYS;
        return -1;
    }
    return syscall(SYS_sync_file_range, fd, offset, bytes, flags);
}
