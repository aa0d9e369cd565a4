/* Listening sockets and addresses of clients. */
#ifndef SERVER_LISTEN_H
#define SERVER_LISTEN_H

#include <stdbool.h>
#include <sys/socket.h>

#include "core/base/err.h"

#define PEER_NAME_SIZE 64

/* Binds and listens on "HOST:PORT" ("[v6]:PORT"; port 0 picks one); *out is the caller's. ERR_INVALID, ERR_IO. */
int listen_open(const char *text, int *out, struct err *e);
int listen_port(int fd);
/* 1: every address the text stands for is this machine's loopback; 0; or a negative error. */
int listen_is_loopback(const char *text, struct err *e);
/* Numeric name of a peer; true when it is loopback. */
bool peer_name(const struct sockaddr *sa, char out[PEER_NAME_SIZE]);

#endif
