/* importer: see importer.h. The child's standard error is one line, "CODE MESSAGE", when it fails. */
#include "server/importer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "server/redact.h"

#define TIME_MS 120000
#define MEMORY_BYTES ((rlim_t)6 << 30) /* address space, the libraries' included */
#define MESSAGE_MAX 1200

static void limit(int resource, rlim_t value)
{
    struct rlimit r = {value, value};
    setrlimit((__rlimit_resource_t)resource, &r);
}

void importer_confine(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_DUMPABLE, 0);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_CPU, TIME_MS / 1000);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    limit(RLIMIT_AS, MEMORY_BYTES);
#endif
}

static int start(const char *const *argv, int err_fd, pid_t *pid, struct err *e)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none;
    sigemptyset(&none);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&files, err_fd, 2);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setsigmask(&attr, &none);
    extern char **environ;
    errno = posix_spawn(pid, "/proc/self/exe", &files, &attr, (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attr);
    return errno ? err_errno(e, "cannot start a process for the weights") : 0;
}

/* What the child says, until it closes or the time is over. 0, or ERR_TIMEOUT. */
static int listen_to(int fd, char text[MESSAGE_MAX])
{
    int64_t end = clock_mono_ms() + TIME_MS;
    size_t len = 0;
    for (;;) {
        int64_t left = end - clock_mono_ms();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int rc = left > 0 ? poll(&p, 1, (int)left) : 0;
        if (rc < 0 && errno == EINTR)
            continue;
        if (rc == 0)
            return ERR_TIMEOUT;
        char chunk[256];
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return 0;
        size_t room = MESSAGE_MAX - 1 - len, take = (size_t)n < room ? (size_t)n : room;
        memcpy(text + len, chunk, take);
        len += take;
        text[len] = '\0';
    }
}

/* The child's last line as an error of the file, unless it is the storage that failed. */
static int judge(const char *text, int status, const char *path, struct err *e)
{
    char message[MESSAGE_MAX];
    if (!WIFEXITED(status) || text[0] == '\0')
        return err_set(e, ERR_CORRUPT, "the weights could not be read: the process that read them ended early");
    const char *line = strchr(text, ' ');
    snprintf(message, sizeof(message), "%s", line ? line + 1 : text);
    message[strcspn(message, "\n")] = '\0';
    int rc = err_set(e, strncmp(text, "full ", 5) == 0 ? ERR_FULL : ERR_CORRUPT, "%s", message);
    redact_path(e, path, "the file");
    return rc;
}

int importer_run(const char *path, const char *arch, const char *out, struct err *e)
{
    const char *argv[] = {"salient",          "model", "import", "--untrusted", path, "-o", out, arch ? "--arch" : NULL,
                          arch ? arch : NULL, NULL};
    char text[MESSAGE_MAX] = "";
    int fd[2], status = 0;
    pid_t pid;
    if (pipe2(fd, O_CLOEXEC) != 0)
        return err_errno(e, "cannot start a process for the weights");
    int rc = start(argv, fd[1], &pid, e);
    close(fd[1]);
    if (rc == 0) {
        rc = listen_to(fd[0], text);
        if (rc)
            kill(pid, SIGKILL);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
        if (rc)
            err_set(e, ERR_CORRUPT, "the weights take too long to read");
        else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            rc = judge(text, status, path, e);
    }
    close(fd[0]);
    return rc ? (e ? e->code : rc) : 0;
}
