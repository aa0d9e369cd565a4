/*
 * The confinement: resource limits, no new privileges, and a seccomp filter that kills on everything not listed. The list is what
 * libc's allocator and threads, FFmpeg's decoders and reading from open descriptors use. Memory is never executable. clone is for threads
 * only; clone3, whose flags a filter cannot see, answers "not there" and libc falls back to clone.
 */
#include "core/media/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <iconv.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <seccomp.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PARTIAL 1
#else
#define PARTIAL 0
#endif

static const int allowed[] = {
    /* memory; mmap, mprotect and clone have rules of their own */
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    /* descriptors that are open already */
    SCMP_SYS(read),
    SCMP_SYS(pread64),
    SCMP_SYS(readv),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    SCMP_SYS(lseek),
    SCMP_SYS(close),
    SCMP_SYS(sendmsg),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(recvfrom),
    SCMP_SYS(poll),
    /* threads */
    SCMP_SYS(futex),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(restart_syscall),
    /* time, randomness, facts about the machine */
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_getres),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(getrandom),
    SCMP_SYS(sysinfo),
};

static int add_rules(scmp_filter_ctx f)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof(allowed) / sizeof(allowed[0]); i++)
        rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, allowed[i], 0);
    static const int mapping[] = {SCMP_SYS(mmap), SCMP_SYS(mprotect)};
    for (int i = 0; rc == 0 && i < 2; i++)
        rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, mapping[i], 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (rc == 0)
        rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                              SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
    if (rc == 0)
        rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1, SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));
    if (rc == 0)
        rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    return rc;
}

/* The filter as the kernel takes it: compiled once, for the children that are forked later. */
static struct {
    struct sock_filter code[512];
    struct sock_fprog program; /* no code: not compiled yet */
} filter;

/* Through a pipe, whose buffer holds all of it. */
static int export_filter(scmp_filter_ctx f)
{
    int fd[2];
    if (pipe2(fd, O_CLOEXEC) != 0)
        return -errno;
    int rc = seccomp_export_bpf(f, fd[1]);
    ssize_t n = rc == 0 ? read(fd[0], filter.code, sizeof(filter.code)) : 0;
    close(fd[0]);
    close(fd[1]);
    if (rc == 0 && (n <= 0 || n == (ssize_t)sizeof(filter.code)))
        rc = -E2BIG;
    if (rc == 0)
        filter.program = (struct sock_fprog){(unsigned short)((size_t)n / sizeof(filter.code[0])), filter.code};
    return rc;
}

static int compile_filter(void)
{
    if (filter.program.len > 0)
        return 0;
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_KILL_PROCESS);
    int rc = f ? add_rules(f) : -ENOMEM;
    if (rc == 0)
        rc = export_filter(f);
    seccomp_release(f);
    return rc;
}

static int install_filter(struct err *e)
{
    int rc = compile_filter();
    if (rc == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter.program) != 0)
        rc = -errno;
    return rc == 0 ? 0 : err_set(e, ERR_UNSUPPORTED, "cannot sandbox the decoder: seccomp: %s", strerror(-rc));
}

static int64_t address_space_now(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%ld", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    return (int64_t)pages * sysconf(_SC_PAGESIZE);
}

static int limit(int resource, int64_t value, struct err *e)
{
    struct rlimit r = {(rlim_t)value, (rlim_t)value};
    return setrlimit((__rlimit_resource_t)resource, &r) == 0 ? 0 : err_errno(e, "cannot sandbox the decoder");
}

int sandbox_is_partial(void)
{
    return PARTIAL;
}

void sandbox_warm_up(void)
{
    time_t now = time(NULL);
    struct tm t;
    compile_filter();        /* an error comes again where it can be told */
    setenv("TZ", "UTC0", 1); /* else libc looks at /etc/localtime each time */
    tzset();
    localtime_r(&now, &t);
    /* Zip names; service names of transport streams (ETSI EN 300 468 annex A). Left open, so that their tables stay loaded. */
    static const char *const sets[] = {"UTF-8",       "ASCII",       "UTF-16LE",    "UTF-16BE",    "ISO6937",
                                       "ISO-8859-5",  "ISO-8859-6",  "ISO-8859-7",  "ISO-8859-8",  "ISO-8859-9",
                                       "ISO-8859-10", "ISO-8859-11", "ISO-8859-13", "ISO-8859-14", "ISO-8859-15",
                                       "UCS-2BE",     "KSC_5601",    "GB2312"};
    static iconv_t loaded[sizeof(sets) / sizeof(sets[0])];
    for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
        if (!loaded[i])
            loaded[i] = iconv_open("UTF-8", sets[i]);
}

int sandbox_enter(const struct sandbox_limits *limits, struct err *e)
{
    mallopt(M_ARENA_MAX, 1); /* further arenas look into /proc/sys when they shrink */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_DUMPABLE, 0) != 0)
        return err_errno(e, "cannot sandbox the decoder");
    int rc = limit(RLIMIT_CORE, 0, e);
    if (rc == 0)
        rc = limit(RLIMIT_FSIZE, 0, e);
    if (rc == 0)
        rc = limit(RLIMIT_CPU, limits->cpu_seconds, e);
    if (rc == 0 && !PARTIAL)
        rc = limit(RLIMIT_AS, address_space_now() + limits->memory_bytes, e);
    if (rc == 0 && !PARTIAL)
        rc = install_filter(e);
    return rc;
}

int sandbox_run(int (*fn)(void *arg), void *arg, const struct sandbox_limits *limits, int *status, struct err *e)
{
    pid_t pid = fork();
    if (pid < 0)
        return err_errno(e, "cannot start a process");
    if (pid == 0) {
        struct err ignored;
        sandbox_warm_up();
        _exit(sandbox_enter(limits, &ignored) == 0 ? fn(arg) : 125);
    }
    while (waitpid(pid, status, 0) < 0)
        if (errno != EINTR)
            return err_errno(e, "waiting for a process");
    return WIFEXITED(*status) && WEXITSTATUS(*status) == 125 ? err_set(e, ERR_UNSUPPORTED, "cannot sandbox the decoder")
                                                             : 0;
}
