/* Preloaded into a program: while the file named by NO_RANDOMNESS exists, the system returns no random bytes. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* So the standard library of Rust asks for the seeds of hash tables, once in every thread. A new connection needs one, and
 * would end with its thread's first panic, before any request is read. */
#define FOR_SEEDS 0x0004 /* GRND_INSECURE */

ssize_t getrandom(void *buffer, size_t length, unsigned flags) {
    const char *file = getenv("NO_RANDOMNESS");
    if (length > 0 && !(flags & FOR_SEEDS) && file && access(file, F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    return syscall(SYS_getrandom, buffer, length, flags);
}
