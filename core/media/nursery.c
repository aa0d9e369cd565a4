/*
 * The nursery: a fork of this process made once, which forks a decoder for each request. Forked early it is small and has no threads, so its
 * children start clean: no locks held by threads that do not exist, no copy of a loaded model. Requests carry their own reply
 * socket, so threads, and processes forked later, can share it without a lock. It ends when the last holder of its socket is gone.
 *
 * One child is always forked ahead and waits for the next request, so a clip pays for no fork. A child serves one clip and ends.
 */
#include "core/media/nursery.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/media/ffmpeg.h"
#include "core/media/sandbox.h"

enum { FD_FIRST = 3, FD_REQUESTS = 3, FD_SIGNALS, FD_BIRTH = 3, FD_SOCKET = 3, FD_INPUT };

static struct {
    pthread_mutex_t lock;
    int fd;     /* our end of the request socket, or -1 */
    bool given; /* somebody else starts it, and again when it dies: requests wait in the socket meanwhile */
} nursery = {PTHREAD_MUTEX_INITIALIZER, -1, false};

/* Leaves exactly fds[0..n-1] as descriptors 3, 4, ...; 0 to 2 stay, so that a crash report of a sanitizer is seen. */
static void keep_only(int *fds, int n)
{
    for (int i = 0; i < n; i++)
        if (fds[i] >= 0)
            fds[i] = fcntl(fds[i], F_DUPFD, 100);
    for (int i = 0; i < n; i++) {
        if (fds[i] >= 0)
            dup2(fds[i], FD_FIRST + i);
        else
            close(FD_FIRST + i);
    }
    closefrom(FD_FIRST + n);
}

static void silence(void)
{
    int null = open("/dev/null", O_RDWR);
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    if (!sandbox_is_partial())
        dup2(null, STDERR_FILENO);
    close(null);
}

/* A child until it knows its clip. */
_Noreturn static void await_birth(int births)
{
    struct remote_birth birth;
    int fds[REMOTE_FDS];
    sigset_t none;
    sigemptyset(&none);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "salient-decode");
    keep_only(&births, 1);
    silence();
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (remote_receive(FD_BIRTH, &birth, sizeof(birth), fds) <= 0 || fds[0] < 0)
        _exit(0);
    keep_only(fds, REMOTE_FDS);
    remote_child(&birth, FD_SOCKET, fds[1] >= 0 ? FD_INPUT : -1);
}

/* The child that waits. */
struct spare {
    pid_t pid; /* 0: none */
    int fd;    /* births go in */
};

static void make_spare(struct spare *s)
{
    int pair[2];
    s->pid = 0;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return;
    pid_t pid = fork();
    if (pid == 0)
        await_birth(pair[1]);
    close(pair[1]);
    if (pid > 0)
        *s = (struct spare){.pid = pid, .fd = pair[0]};
    else
        close(pair[0]);
}

/* The pid of the child that took the birth; -1 when none can be made. */
static pid_t give_birth(struct spare *s, const struct remote_birth *birth, const int *fds)
{
    for (int attempt = 0; attempt < 2; attempt++) { /* the one that waited may have been killed */
        if (s->pid == 0)
            make_spare(s);
        if (s->pid == 0)
            return -1;
        pid_t pid = s->pid;
        bool taken = remote_send(s->fd, birth, sizeof(*birth), fds, fds[1] >= 0 ? 2 : 1) > 0;
        close(s->fd);
        s->pid = 0;
        if (taken)
            return pid;
    }
    return -1;
}

static void serve_request(struct spare *spare)
{
    struct remote_birth birth;
    int fds[REMOTE_FDS];
    int rc = remote_receive(FD_REQUESTS, &birth, sizeof(birth), fds);
    if (rc == 0 || (rc < 0 && errno != EPROTO))
        _exit(0);
    if (rc > 0 && fds[0] >= 0 && (fds[1] >= 0) == birth.has_input) {
        struct remote_hello hello = {.pid = give_birth(spare, &birth, fds)};
        remote_send(fds[0], &hello, sizeof(hello), NULL, 0);
    }
    for (int i = 0; i < REMOTE_FDS; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

static void reap(void)
{
    struct signalfd_siginfo ignored;
    int status;
    if (read(FD_SIGNALS, &ignored, sizeof(ignored)) < 0)
        return;
    while (waitpid(-1, &status, WNOHANG) > 0)
        if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL) /* that is how clips are closed */
            log_warn(LOG_MSG(WTERMSIG(status) == SIGSYS ? "a decoder was killed for a forbidden system call"
                                                        : "a decoder was killed"),
                     LOG_INT("signal", WTERMSIG(status)));
}

_Noreturn void nursery_serve(int requests)
{
    sigset_t chld;
    struct spare spare = {0};
    prctl(PR_SET_NAME, "salient-nursery");
    signal(SIGINT, SIG_IGN); /* our holder decides when we end */
    signal(SIGTERM, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    sigfillset(&chld);
    sigprocmask(SIG_UNBLOCK, &chld, NULL);
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    sigprocmask(SIG_BLOCK, &chld, NULL);
    int fds[2] = {requests, signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK)};
    keep_only(fds, 2);
    sandbox_warm_up();
    ffmpeg_warm_up();
    for (;;) {
        if (spare.pid == 0)
            make_spare(&spare);
        struct pollfd p[2] = {{.fd = FD_REQUESTS, .events = POLLIN}, {.fd = FD_SIGNALS, .events = POLLIN}};
        if (poll(p, 2, -1) < 0)
            continue;
        if (p[1].revents)
            reap();
        if (p[0].revents)
            serve_request(&spare);
    }
}

/* With the lock held. */
static int start(struct err *e)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return err_errno(e, "cannot start the decoder process");
    pid_t pid = fork();
    if (pid == 0) {
        if (fork() == 0) { /* twice: it is nobody's child to wait for */
            close(pair[0]);
            nursery_serve(pair[1]);
        }
        _exit(0);
    }
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return err_errno(e, "cannot start the decoder process");
    }
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    nursery.fd = pair[0];
    return 0;
}

void nursery_use(int requests)
{
    pthread_mutex_lock(&nursery.lock);
    nursery.fd = requests;
    nursery.given = true;
    pthread_mutex_unlock(&nursery.lock);
}

int nursery_start(struct err *e)
{
    pthread_mutex_lock(&nursery.lock);
    int rc = nursery.fd >= 0 ? 0 : start(e);
    pthread_mutex_unlock(&nursery.lock);
    return rc;
}

int nursery_fork(const struct remote_birth *birth, const int *fds, struct err *e)
{
    int n = birth->has_input ? 2 : 1, rc = 0;
    pthread_mutex_lock(&nursery.lock);
    for (int attempt = 0; rc == 0 && attempt < 2; attempt++) {
        if (nursery.fd < 0 && (rc = start(e)) < 0)
            break;
        if (remote_send(nursery.fd, birth, sizeof(*birth), fds, n) > 0)
            break;
        if (!nursery.given) { /* it died: once more */
            close(nursery.fd);
            nursery.fd = -1;
        }
        if (attempt == 1)
            rc = err_set(e, ERR_INTERNAL, "cannot reach the decoder process");
    }
    pthread_mutex_unlock(&nursery.lock);
    return rc;
}
