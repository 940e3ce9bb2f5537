// A network volume that does not answer, for tests/operations/dead_volume.rs: `open` of what lies in a folder called `volume` waits in the loaded
// program for as long as the file that DEAD_VOLUME names is there.
#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

extern "C" int open64(const char *path, int flags, ...) {
  static auto real = reinterpret_cast<int (*)(const char *, int, ...)>(dlsym(RTLD_NEXT, "open64"));
  const char *dead = getenv("DEAD_VOLUME");
  if (dead != nullptr && strstr(path, "/volume/") != nullptr) {
    while (access(dead, F_OK) == 0) usleep(10000);
  }
  va_list arguments;
  va_start(arguments, flags);
  mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return real(path, flags, mode);
}
