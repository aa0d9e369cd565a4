/* Listening sockets: parsing of HOST:PORT, binding, and what a bound socket is called. */
#include "server/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* "host:port" or "[v6]:port"; an empty host or "*" means every address. */
static int split(const char *text, char *host, size_t host_size, const char **port, struct err *e)
{
    const char *colon = strrchr(text, ':');
    if (!colon || colon[1] == '\0' || strspn(colon + 1, "0123456789") != strlen(colon + 1))
        return err_set(e, ERR_INVALID, "listen address '%s': expected HOST:PORT", text);
    size_t n = (size_t)(colon - text);
    if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
        text++;
        n -= 2;
    }
    if (n >= host_size)
        return err_set(e, ERR_INVALID, "listen address: the host is too long");
    memcpy(host, text, n);
    host[n] = '\0';
    if (strcmp(host, "*") == 0)
        host[0] = '\0';
    *port = colon + 1;
    return 0;
}

static int resolve(const char *text, struct addrinfo **out, struct err *e)
{
    char host[256];
    const char *port = NULL;
    int rc = split(text, host, sizeof(host), &port, e);
    if (rc < 0)
        return rc;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    int gai = getaddrinfo(host[0] ? host : NULL, port, &hints, out);
    if (gai != 0)
        return err_set(e, ERR_INVALID, "listen address '%s': %s", text, gai_strerror(gai));
    return 0;
}

static bool addr_is_loopback(const struct sockaddr *sa)
{
    if (sa->sa_family == AF_INET)
        return (ntohl(((const struct sockaddr_in *)sa)->sin_addr.s_addr) >> 24) == 127;
    if (sa->sa_family != AF_INET6)
        return false;
    const struct in6_addr *a = &((const struct sockaddr_in6 *)sa)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(a) || (IN6_IS_ADDR_V4MAPPED(a) && a->s6_addr[12] == 127);
}

int listen_is_loopback(const char *text, struct err *e)
{
    struct addrinfo *list = NULL;
    int rc = resolve(text, &list, e);
    if (rc < 0)
        return rc;
    rc = 1;
    for (const struct addrinfo *a = list; a; a = a->ai_next)
        if (!addr_is_loopback(a->ai_addr))
            rc = 0;
    freeaddrinfo(list);
    return rc;
}

static int bind_one(const struct addrinfo *a)
{
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    int on = 1, off = 0;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (a->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, 1024) == 0)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

int listen_open(const char *text, int *out, struct err *e)
{
    struct addrinfo *list = NULL;
    int rc = resolve(text, &list, e);
    if (rc < 0)
        return rc;
    int fd = -1;
    for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next)
        fd = bind_one(a);
    rc = fd < 0 ? err_errno(e, "cannot listen on %s", text) : 0;
    freeaddrinfo(list);
    *out = fd;
    return rc;
}

int listen_port(int fd)
{
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } u;
    socklen_t len = sizeof(u);
    if (getsockname(fd, &u.sa, &len) != 0)
        return -1;
    return ntohs(u.sa.sa_family == AF_INET6 ? u.in6.sin6_port : u.in.sin_port);
}

bool peer_name(const struct sockaddr *sa, char out[PEER_NAME_SIZE])
{
    socklen_t len = sa->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (getnameinfo(sa, len, out, PEER_NAME_SIZE, NULL, 0, NI_NUMERICHOST) != 0)
        snprintf(out, PEER_NAME_SIZE, "?");
    return addr_is_loopback(sa);
}
