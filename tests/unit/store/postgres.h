/*
 * postgres.h: a real PostgreSQL for the tests, in a temporary directory on a socket of its own. It dies with the test, however that ends.
 */
#ifndef TESTS_UNIT_STORE_POSTGRES_H
#define TESTS_UNIT_STORE_POSTGRES_H

#include <fcntl.h>
#include <glob.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

static pid_t pg_pid;
static char pg_bin[200], pg_dir[300];

/* Starts a program of the PostgreSQL installation, which refuses to run as root. */
static inline pid_t pg_exec(const char *program, const char *const *args)
{
    pid_t parent = getpid(), pid = fork();
    if (pid)
        return pid;
    struct passwd *pw = geteuid() == 0 ? getpwnam("postgres") : NULL;
    if (pw && (setgid(pw->pw_gid) || setuid(pw->pw_uid)))
        _exit(120);
    prctl(PR_SET_PDEATHSIG, SIGQUIT);
    if (getppid() != parent)
        _exit(121);
    char path[300], log[400];
    snprintf(path, sizeof(path), "%s/%s", pg_bin, program);
    snprintf(log, sizeof(log), "%s/log", pg_dir);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(fd, 1);
    dup2(fd, 2);
    execv(path, (char *const *)(uintptr_t)args);
    _exit(122);
}

static inline int pg_wait(pid_t pid)
{
    int status = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return status;
}

static inline int pg_run(const char *program, const char *const *args)
{
    return pg_wait(pg_exec(program, args));
}

static inline int postgres_available(void)
{
    glob_t g;
    if (getenv("PG_BIN"))
        snprintf(pg_bin, sizeof(pg_bin), "%s", getenv("PG_BIN"));
    else if (glob("/usr/lib/postgresql/*/bin", 0, NULL, &g) == 0) {
        snprintf(pg_bin, sizeof(pg_bin), "%s", g.gl_pathv[g.gl_pathc - 1]);
        globfree(&g);
    }
    if (*pg_bin)
        return 1;
    print_message("SKIPPED: no PostgreSQL server is installed\n");
    return 0;
}

/* Starts (again) the server on the data directory and waits until it answers. */
static inline void postgres_start(void)
{
    const char *const args[] = {"postgres",
                                "-D",
                                pg_dir,
                                "-k",
                                pg_dir,
                                "-c",
                                "listen_addresses=",
                                "-c",
                                "fsync=off",
                                "-c",
                                "max_connections=200",
                                "-c",
                                "shared_buffers=16MB",
                                NULL};
    const char *const ready[] = {"pg_isready", "-q", "-h", pg_dir, "-U", "salient", "-d", "postgres", NULL};
    pg_pid = pg_exec("postgres", args);
    for (int i = 0; i < 200; i++) {
        if (pg_run("pg_isready", ready) == 0)
            return;
        clock_sleep_ms(50);
    }
    print_error("PostgreSQL does not start, see %s/log\n", pg_dir);
    abort();
}

/* SIGINT: fast shutdown; SIGKILL: a crash. */
static inline void postgres_end(int signal)
{
    if (pg_pid <= 0)
        return;
    if (signal == SIGKILL) { /* the postmaster's children notice its death */
        kill(pg_pid, SIGKILL);
        pg_wait(pg_pid);
        clock_sleep_ms(300);
        char pidfile[400];
        snprintf(pidfile, sizeof(pidfile), "%s/postmaster.pid", pg_dir);
        unlink(pidfile);
    } else {
        kill(pg_pid, signal);
        pg_wait(pg_pid);
    }
    pg_pid = 0;
}

static inline void postgres_init(void)
{
    snprintf(pg_dir, sizeof(pg_dir), "%s/pg", temp_root);
    struct passwd *pw = geteuid() == 0 ? getpwnam("postgres") : NULL;
    if (mkdir(pg_dir, 0700) || chmod(temp_root, 0755) || (pw && chown(pg_dir, pw->pw_uid, pw->pw_gid)))
        abort();
    char data[400];
    snprintf(data, sizeof(data), "%s/data", pg_dir);
    const char *const args[] = {"initdb", "-D", data,   "-U",         "salient", "-A",
                                "trust",  "-E", "UTF8", "--locale=C", "-N",      NULL};
    if (pg_run("initdb", args)) {
        print_error("initdb failed, see %s/log\n", pg_dir);
        abort();
    }
    snprintf(pg_dir + strlen(pg_dir), sizeof(pg_dir) - strlen(pg_dir), "/data");
    postgres_start();
}

/* A schema instead of a database for each test: much quicker, and as empty. */
static inline void postgres_fresh(char url[URL_MAX])
{
    static int n;
    if (!pg_pid)
        postgres_init();
    char admin[URL_MAX], sql[64];
    snprintf(admin, sizeof(admin), "postgresql://salient@/postgres?host=%s", pg_dir);
    snprintf(sql, sizeof(sql), "CREATE SCHEMA t%d", n);
    PGconn *c = PQconnectdb(admin);
    PGresult *res = PQexec(c, sql);
    if (PQresultStatus(res) != PGRES_COMMAND_OK) {
        print_error("%s: %s\n", sql, PQerrorMessage(c));
        abort();
    }
    PQclear(res);
    PQfinish(c);
    snprintf(url, URL_MAX, "%s&options=-csearch_path%%3Dt%d", admin, n++);
}

static inline void postgres_stop(void)
{
    postgres_end(SIGQUIT);
}

#endif
