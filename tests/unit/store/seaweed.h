/*
 * seaweed.h: a real S3 server (SeaweedFS) for the tests, on loopback ports of its own. `weed` comes with tests/requirements.txt; $WEED names another.
 * It dies with the test, however that ends.
 */
#ifndef TESTS_UNIT_STORE_SEAWEED_H
#define TESTS_UNIT_STORE_SEAWEED_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "core/store/s3.h"

static char weed_program[300], weed_endpoint[64];
static pid_t weed_pid;

static inline int seaweed_available(void)
{
    const char *const places[] = {getenv("WEED"), "build/venv/bin/weed", "/usr/local/bin/weed", "/usr/bin/weed"};
    for (size_t i = 0; i < sizeof(places) / sizeof(*places) && !*weed_program; i++)
        if (places[i] && access(places[i], X_OK) == 0)
            snprintf(weed_program, sizeof(weed_program), "%s", places[i]);
    if (*weed_program)
        return 1;
    print_message("SKIPPED: no S3 server (weed); `make test-deps` installs it\n");
    return 0;
}

static inline int port_free(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int rc = bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
    close(fd);
    return rc;
}

/* Four neighbouring ports that are free, with those 10000 above (gRPC). */
static inline int find_ports(void)
{
    for (int p = 12000 + (int)(getpid() % 997) * 10;; p = p > 40000 ? 12000 : p + 10) {
        int good = 1;
        for (int i = 0; i < 4 && good; i++)
            good = port_free(p + i) && port_free(p + i + 10000);
        if (good)
            return p;
    }
}

static inline void seaweed_spawn(const char *dir, int port)
{
    char text[8][400];
    snprintf(text[0], 400, "-dir=%s", dir);
    snprintf(text[1], 400, "-s3.config=%s/s3.json", dir);
    for (int i = 0; i < 4; i++) {
        static const char *const what[] = {"master", "volume", "filer", "s3"};
        snprintf(text[2 + i], 400, "-%s.port=%d", what[i], port + i);
    }
    snprintf(text[6], 400, "%s/log", dir);
    const char *const args[] = {"weed",
                                "server",
                                "-ip=127.0.0.1",
                                "-s3",
                                "-s3.port.iceberg=0",
                                "-s3.port.lance=0",
                                "-master.volumeSizeLimitMB=64",
                                "-volume.max=30",
                                "-master.telemetry=false",
                                text[0],
                                text[1],
                                text[2],
                                text[3],
                                text[4],
                                text[5],
                                NULL};
    pid_t parent = getpid();
    weed_pid = fork();
    if (weed_pid)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(121);
    int fd = open(text[6], O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(fd, 1);
    dup2(fd, 2);
    execv(weed_program, (char *const *)(uintptr_t)args);
    _exit(122);
}

/* A client that has not looked for its bucket yet. */
static inline int make_bucket(void)
{
    struct s3 s = {.endpoint = weed_endpoint,
                   .host = weed_endpoint + 7,
                   .root = (char *)"/salient-test/",
                   .prefix = (char *)"",
                   .region = (char *)"us-east-1",
                   .access = (char *)"testkey",
                   .secret = (char *)"testsecret"};
    struct s3_call c = {.method = "PUT"};
    struct s3_answer a;
    s3_client_init(&s, NULL);
    int rc = s3_do(&s, &c, &a, &err);
    s3_answer_fini(&a);
    s3_client_fini(&s);
    return rc;
}

static inline void seaweed_start(void)
{
    static const char config[] =
        "{\"identities\":[{\"name\":\"t\",\"credentials\":[{\"accessKey\":\"testkey\",\"secretKey\":"
        "\"testsecret\"}],\"actions\":[\"Admin\",\"Read\",\"List\",\"Tagging\",\"Write\"]}]}";
    char dir[300], path[400];
    int port = find_ports();
    snprintf(dir, sizeof(dir), "%s/weed", temp_root);
    snprintf(path, sizeof(path), "%s/s3.json", dir);
    if (mkdir(dir, 0700) || fs_write_atomic(path, config, strlen(config), &err))
        abort();
    seaweed_spawn(dir, port);
    snprintf(weed_endpoint, sizeof(weed_endpoint), "http://127.0.0.1:%d", port + 3);
    setenv("AWS_ENDPOINT_URL", weed_endpoint, 1);
    setenv("AWS_ACCESS_KEY_ID", "testkey", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "testsecret", 1);
    unsetenv("AWS_ENDPOINT_URL_S3");
    unsetenv("AWS_SESSION_TOKEN");
    for (int i = 0; i < 40; i++)
        if (make_bucket() == 0) /* tries for a while itself */
            return;
    print_error("SeaweedFS does not start, see %s/log: %s\n", dir, err.msg);
    abort();
}

static inline void seaweed_fresh(char url[URL_MAX])
{
    static int n;
    if (!weed_pid)
        seaweed_start();
    snprintf(url, URL_MAX, "s3://salient-test/run/t%d", n++);
}

static inline void seaweed_stop(void)
{
    if (weed_pid > 0) {
        kill(weed_pid, SIGKILL);
        pg_wait(weed_pid);
    }
    weed_pid = 0;
}

#endif
