/* User-mode Linux 6.1 hands the kernel the registers of a process in a buffer of its own size; a processor with more of
 * them (AMX) refuses what is not the whole. So the rest is asked for first. Loaded into linux.uml by LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

static char whole[65536];

long ptrace(enum __ptrace_request request, ...)
{
    static long (*next)(int, long, void *, void *);
    va_list more;
    va_start(more, request);
    long pid = va_arg(more, long);
    void *address = va_arg(more, void *), *data = va_arg(more, void *);
    va_end(more);
    if (!next)
        next = (long (*)(int, long, void *, void *))dlsym(RTLD_NEXT, "ptrace");
    if (request == PTRACE_SETREGSET && (long)address == NT_X86_XSTATE) {
        struct iovec *given = data, all = {whole, sizeof whole};
        if (next(PTRACE_GETREGSET, pid, address, &all) == 0 && given->iov_len < all.iov_len) {
            memcpy(whole, given->iov_base, given->iov_len);
            return next(request, pid, address, &all);
        }
    }
    return next(request, pid, address, data);
}
