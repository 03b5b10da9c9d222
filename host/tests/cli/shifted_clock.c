/* Loaded before a program's libraries, this shifts what its clocks say by two numbers of seconds in a file that is mapped:
   the first for the clocks that tell the date, the second for the one that goes on while a machine sleeps. The clock by
   which programs wait stays as it is. Tests write to the file while the program runs. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *shifts(void) {
    static const int64_t unshifted[2];
    static const volatile int64_t *mapped;
    if (mapped == NULL) {
        const char *path = getenv("SHIFTED_CLOCK");
        int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
        void *map = file < 0 ? MAP_FAILED : mmap(NULL, sizeof unshifted, PROT_READ, MAP_SHARED, file, 0);
        mapped = map == MAP_FAILED ? unshifted : map;
        if (file >= 0) close(file);
    }
    return mapped;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    long failed = syscall(SYS_clock_gettime, clock, now);
    if (failed) return -1;
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) now->tv_sec += shifts()[0];
    if (clock == CLOCK_BOOTTIME) now->tv_sec += shifts()[1];
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise)) return -1;
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *stored) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (stored) *stored = now.tv_sec;
    return now.tv_sec;
}
