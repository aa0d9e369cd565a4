/* Paths inside data sets: the components that say what a folder holds. Used wherever a set is taken apart. */
#ifndef CORE_TASK_LAYOUT_H
#define CORE_TASK_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>

/* Length of the first component of `dir`, and the rest after it. */
size_t layout_component(const char *dir, const char **rest);
/* The component s[n] is that word, in any case. */
bool layout_is(const char *s, size_t n, const char *word);
/* Position of the component among `words` (ends with NULL), or -1. */
int layout_find(const char *s, size_t n, const char *const *words);
/* Files of the operating system's own, hidden ones, and macOS resource forks. */
bool layout_is_litter(const char *path);
/* By extension, in any case. */
bool layout_is_map(const char *path);         /* PNG or JPEG */
bool layout_is_other_image(const char *path); /* an image format that is not read here */

/* DAVIS' folders of one resolution each, ending with NULL. */
extern const char *const layout_resolutions[];

#endif
