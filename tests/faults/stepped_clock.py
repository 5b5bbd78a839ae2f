"""A clock that is set while a host works: containers have the kernel's, so libc tells another one there.

From `installed` on, all that is started on the host asks a library for the time. It adds the seconds in a file, which every process has in
its memory: they change for all at once, those at work too. As where a clock is set, what counts the seconds since the machine started
goes on; unlike there, files get the kernel's time. Programs of Go ask the kernel themselves, and do not notice.
"""

from __future__ import annotations

from tests.lab.snapshot import inside

LIBRARY = r"""
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *off;

__attribute__((constructor)) static void begin(void) {
  int file = open("/etc/clock-step", O_RDONLY | O_CLOEXEC);
  void *at = file < 0 ? MAP_FAILED : mmap(0, sizeof *off, PROT_READ, MAP_SHARED, file, 0);
  if (file >= 0) close(file);
  if (at != MAP_FAILED) off = at;
}

int clock_gettime(clockid_t which, struct timespec *now) {
  int failed = syscall(SYS_clock_gettime, which, now);
  if (!failed && off && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) now->tv_sec += *off;
  return failed;
}

int gettimeofday(struct timeval *now, void *zone) {
  struct timespec at;
  clock_gettime(CLOCK_REALTIME, &at);
  if (now) *now = (struct timeval){at.tv_sec, at.tv_nsec / 1000};
  return 0;
}

time_t time(time_t *now) {
  struct timespec at;
  clock_gettime(CLOCK_REALTIME, &at);
  if (now) *now = at.tv_sec;
  return at.tv_sec;
}

int timespec_get(struct timespec *now, int base) { return base == TIME_UTC && !clock_gettime(CLOCK_REALTIME, now) ? base : 0; }
"""

STEP = 'python3 -c \'import sys; open("/etc/clock-step", "r+b").write(int(sys.argv[1]).to_bytes(8, "little", signed=True))\' {}'


def installed(container: str) -> None:
    """The host needs gcc for it. Nothing is set yet."""
    inside(
        container,
        f"""cat >/root/clock.c <<'END'
{LIBRARY}
END
gcc -O2 -shared -fPIC -o /usr/lib/clock.so.new /root/clock.c
mv /usr/lib/clock.so.new /usr/lib/clock.so
head -c 8 /dev/zero >/etc/clock-step
echo /usr/lib/clock.so >/etc/ld.so.preload""",
    )


def step(container: str, hours: int) -> None:
    """From now on the clock is so far off; 0 sets it right."""
    inside(container, STEP.format(hours * 3600))
