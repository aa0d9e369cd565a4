/* core/media/sandbox and decoding in it: what is forbidden kills, what is bounded ends, and clips come out the same. */
#include "tests/unit/media/media_fixture.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "core/media/sandbox.h"

static const struct sandbox_limits small = {.memory_bytes = 256 << 20, .cpu_seconds = 1};

static int open_passwd(void *arg)
{
    (void)arg;
    return open("/etc/passwd", O_RDONLY) >= 0;
}

static int open_nothing(void *arg)
{
    (void)arg;
    return open("/no/such/file", O_RDONLY) >= 0;
}

static int make_file(void *arg)
{
    return open(arg, O_CREAT | O_WRONLY, 0600) >= 0;
}

static int make_socket(void *arg)
{
    (void)arg;
    return socket(AF_INET, SOCK_STREAM, 0) >= 0;
}

static int make_unix_socket(void *arg)
{
    (void)arg;
    return socket(AF_UNIX, SOCK_STREAM, 0) >= 0;
}

static int run_program(void *arg)
{
    (void)arg;
    execl("/bin/true", "true", (char *)NULL);
    return 1;
}

static int fork_again(void *arg)
{
    (void)arg;
    return fork() >= 0;
}

static int kill_parent(void *arg)
{
    (void)arg;
    return kill(getppid(), 0) == 0;
}

static int trace_parent(void *arg)
{
    (void)arg;
    return ptrace(PTRACE_TRACEME, 0, 0, 0) == 0;
}

static int map_code(void *arg)
{
    (void)arg;
    return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
}

static int make_code(void *arg)
{
    return mprotect(arg, 4096, PROT_READ | PROT_EXEC) == 0;
}

static void forbidden_calls_kill(void **state)
{
    (void)state;
    if (sandbox_is_partial()) {
        fprintf(stderr, "SKIPPED: no system call filter in a build with sanitizers\n");
        return;
    }
    char file[FS_PATH_MAX];
    snprintf(file, sizeof(file), "%s", tmp("escaped"));
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    static const struct {
        const char *what;
        int (*fn)(void *);
    } crimes[] = {
        {"open /etc/passwd", open_passwd},
        {"open a file that is not there", open_nothing},
        {"make a file", make_file},
        {"internet socket", make_socket},
        {"local socket", make_unix_socket},
        {"execve", run_program},
        {"fork", fork_again},
        {"kill", kill_parent},
        {"ptrace", trace_parent},
        {"executable mapping", map_code},
        {"make a page executable", make_code},
    };
    for (size_t i = 0; i < sizeof(crimes) / sizeof(crimes[0]); i++) {
        int status = 0;
        struct err e = {0};
        void *arg = crimes[i].fn == make_code ? page : file;
        assert_int_equal(sandbox_run(crimes[i].fn, arg, &small, &status, &e), 0);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
            fail_msg("%s was not killed: status %x", crimes[i].what, status);
    }
    assert_false(fs_exists(file));
    munmap(page, 4096);
}

static void *thread_main(void *arg)
{
    char *p = malloc(100000);
    memset(p, 1, 100000);
    free(p);
    return arg;
}

static int honest_work(void *arg)
{
    pthread_t t[3];
    char byte;
    void *result;
    for (int i = 0; i < 3; i++)
        if (pthread_create(&t[i], NULL, thread_main, arg) != 0)
            return 1;
    for (int i = 0; i < 3; i++)
        if (pthread_join(t[i], &result) != 0 || result != arg)
            return 2;
    char *p = malloc(32 << 20);
    if (!p)
        return 3;
    memset(p, 1, 32 << 20);
    free(p);
    return pread(*(int *)arg, &byte, 1, 0) == 1 && byte == 'x' ? 42 : 4;
}

static int take_memory(void *arg)
{
    (void)arg;
    void *p = malloc((size_t)300 << 20);
    return p ? 1 : 42;
}

static int spin(void *arg)
{
    for (volatile unsigned *n = arg;; ++*n)
        ;
    return 0;
}

static void honest_work_works_and_resources_are_bounded(void **state)
{
    (void)state;
    int status = 0;
    unsigned n = 0;
    struct err e = {0};
    assert_int_equal(fs_write_atomic(tmp("x"), "x", 1, NULL), 0);
    int fd = open(tmp("x"), O_RDONLY);
    assert_int_equal(sandbox_run(honest_work, &fd, &small, &status, &e), 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
    close(fd);
    if (!sandbox_is_partial()) {
        assert_int_equal(sandbox_run(take_memory, NULL, &small, &status, &e), 0);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 42);
    }
    assert_int_equal(sandbox_run(spin, &n, &small, &status, &e), 0);
    assert_true(WIFSIGNALED(status));
}

static void clips_are_the_same_on_both_sides(void **state)
{
    (void)state;
    static const char *const files[][2] = {
        {"s.mp4", "-c:v libx264 -bf 2"},
        {"s.webm", "-c:v libvpx-vp9 -cpu-used 8"},
        {"s.gif", ""},
        {"s.jpg", "-q:v 3 -frames:v 1"},
    };
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        char args[1024];
        struct clip *c[2];
        struct frame *f[2];
        struct err e = {0};
        int rc[2];
        snprintf(args, sizeof(args), "%s %s %s", NUMBERED("98x50", 20), files[i][1], files[i][0]);
        if (!ffmpeg(args))
            continue;
        for (int k = 0; k < 2; k++)
            if (clip_open(tmp(files[i][0]), &(struct clip_limits){.sandbox = k ? CLIP_UNSANDBOXED : CLIP_SANDBOXED},
                          &c[k], &e) != 0)
                fail_msg("%s", e.msg);
        do {
            for (int k = 0; k < 2; k++)
                rc[k] = clip_next(c[k], &f[k], &e);
            assert_int_equal(rc[0], rc[1]);
            if (rc[0] > 0) {
                assert_true(hash_of(f[0]) == hash_of(f[1]));
                assert_int_equal(f[0]->ordinal, f[1]->ordinal);
                assert_int_equal(f[0]->pts_ms, f[1]->pts_ms);
                frame_unref(f[0]);
                frame_unref(f[1]);
            }
        } while (rc[0] > 0);
        const struct clip_info *a = clip_info(c[0]), *b = clip_info(c[1]);
        assert_int_equal(a->frames, b->frames);
        assert_int_equal(a->kind, b->kind);
        assert_string_equal(a->codec, b->codec);
        assert_string_equal(a->format, b->format);
        clip_close(c[0]);
        clip_close(c[1]);
    }
}

static void *open_and_read(void *arg)
{
    struct clip *c;
    struct frame *f;
    struct err e = {0};
    int64_t n = 0;
    for (int i = 0; i < 3; i++) {
        if (clip_open(arg, NULL, &c, &e) != 0)
            return NULL;
        while (clip_next(c, &f, &e) > 0) {
            frame_unref(f);
            n++;
        }
        clip_close(c);
    }
    return (void *)(intptr_t)n;
}

static void many_threads_open_clips_at_once(void **state)
{
    (void)state;
    static char path[FS_PATH_MAX];
    pthread_t t[4];
    void *n;
    if (!ffmpeg(NUMBERED("32x32", 10) " -c:v mpeg4 threads.mp4"))
        return;
    snprintf(path, sizeof(path), "%s", tmp("threads.mp4"));
    int fds = open_fds();
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, open_and_read, path);
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], &n);
        assert_int_equal((intptr_t)n, 30);
    }
    assert_int_equal(open_fds(), fds);
}

static void closing_early_leaves_nothing(void **state)
{
    (void)state;
    struct clip *c;
    struct frame *f;
    struct err e = {0};
    if (!ffmpeg(NUMBERED("320x240", 60) " -c:v mpeg4 early.mp4"))
        return;
    int fds = open_fds();
    for (int i = 0; i < 5; i++) {
        assert_int_equal(clip_open(tmp("early.mp4"), NULL, &c, &e), 0);
        for (int k = 0; k < i; k++) {
            assert_int_equal(clip_next(c, &f, &e), 1);
            assert_int_equal(f->ordinal, k);
            frame_unref(f);
        }
        clip_close(c);
    }
    assert_int_equal(open_fds(), fds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forbidden_calls_kill),
        cmocka_unit_test(honest_work_works_and_resources_are_bounded),
        cmocka_unit_test(clips_are_the_same_on_both_sides),
        cmocka_unit_test(many_threads_open_clips_at_once),
        cmocka_unit_test(closing_early_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, make_tmp, remove_tmp);
}
