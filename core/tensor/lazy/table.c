/* The functions that the shared object of lazy.c offers, in the order of names.def. */
typedef void fn(void);

#define NAME(f) fn f;
#include "names.def"
#undef NAME

extern fn *const salient_tensor_table[];
__attribute__((visibility("default"))) fn *const salient_tensor_table[] = {
#define NAME(f) f,
#include "names.def"
#undef NAME
};
