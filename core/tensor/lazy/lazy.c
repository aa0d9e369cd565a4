/*
 * libtorch when it is needed. Loading it takes half a second of relocations and initialisers, which commands that compute
 * no tensors should not pay. So the program is linked without it: the *_torch.cc files stand in a shared object of their
 * own, kept inside the program (.incbin), and every function of tensor.h that they define is here a jump through a slot.
 * tensor_open puts the object into memory, loads it, and fills the slots from its table (table.c).
 *
 * names.def is made by the Makefile from the objects' symbols. Builds that link libtorch directly (tests, sanitizers,
 * CUDA, other CPUs) have core/tensor/open.c instead of this file.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/tensor/tensor.h"

#ifndef __x86_64__
#error "the jumps below are written for x86-64; link libtorch directly (LAZY=0)"
#endif

enum {
#define NAME(f) AT_##f,
#include "names.def"
#undef NAME
    NAMES
};

typedef void fn(void);
__attribute__((visibility("hidden"), used)) fn *tensor_slots[NAMES];

__asm__(".text\n"
        ".set tensor_slot_at, 0\n"
#define NAME(f)                                    \
    ".globl " #f "\n"                              \
    ".hidden " #f "\n"                             \
    ".type " #f ", @function\n" #f ":\n"           \
    "    jmp *tensor_slots+tensor_slot_at(%rip)\n" \
    ".size " #f ", . - " #f "\n"                   \
    ".set tensor_slot_at, tensor_slot_at + 8\n"
#include "names.def"
#undef NAME
        ".section .rodata\n"
        ".balign 16\n"
        "tensor_object:\n"
        ".incbin \"torch.so\"\n"
        "tensor_object_end:\n"
        ".previous\n");

extern const char tensor_object[] __attribute__((visibility("hidden")));
extern const char tensor_object_end[] __attribute__((visibility("hidden")));

/* Writes the object into memory that has a path for the loader. */
static int memory_file(struct err *e)
{
    int fd = memfd_create("salient-torch.so", MFD_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "loading libtorch");
    for (const char *p = tensor_object; p < tensor_object_end;) {
        ssize_t n = write(fd, p, (size_t)(tensor_object_end - p));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int rc = err_errno(e, "loading libtorch");
            close(fd);
            return rc;
        }
        p += n;
    }
    return fd;
}

int tensor_open(struct err *e)
{
    static atomic_bool open;
    char path[64];
    if (atomic_load(&open))
        return 0;
    int fd = memory_file(e);
    if (fd < 0)
        return fd;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    void *object = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    fn *const *table = object ? (fn *const *)dlsym(object, "salient_tensor_table") : NULL;
    const char *why = table ? NULL : dlerror();
    close(fd);
    if (!table)
        return err_set(e, ERR_DEVICE, "libtorch cannot be loaded: %s", why ? why : "no table of functions");
    for (int i = 0; i < NAMES; i++)
        tensor_slots[i] = table[i];
    atomic_store(&open, true);
    return 0;
}
