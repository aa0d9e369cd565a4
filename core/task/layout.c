#include "core/task/layout.h"

#include <string.h>
#include <strings.h>

const char *const layout_resolutions[] = {"480p", "1080p", "Full-Resolution", NULL};

size_t layout_component(const char *dir, const char **rest)
{
    size_t n = strcspn(dir, "/");
    *rest = dir + n + (dir[n] == '/');
    return n;
}

bool layout_is(const char *s, size_t n, const char *word)
{
    return strlen(word) == n && strncasecmp(s, word, n) == 0;
}

int layout_find(const char *s, size_t n, const char *const *words)
{
    for (int i = 0; words[i]; i++)
        if (layout_is(s, n, words[i]))
            return i;
    return -1;
}

bool layout_is_litter(const char *path)
{
    if (strncmp(path, "__MACOSX/", 9) == 0 || strstr(path, "/__MACOSX/"))
        return true;
    return path[0] == '.' || strstr(path, "/.") != NULL;
}

static bool has_extension(const char *path, const char *const *list)
{
    const char *dot = strrchr(path, '.');
    return dot && layout_find(dot + 1, strlen(dot + 1), list) >= 0;
}

bool layout_is_map(const char *path)
{
    static const char *const list[] = {"png", "jpg", "jpeg", NULL};
    return has_extension(path, list);
}

bool layout_is_other_image(const char *path)
{
    static const char *const list[] = {"bmp", "tif", "tiff", "webp", "gif", "exr", "jp2", "avif", "heic", NULL};
    return has_extension(path, list);
}
