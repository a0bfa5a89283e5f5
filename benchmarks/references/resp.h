/* What a subscriber needs of the Redis protocol, version 2 (RESP2). */
#ifndef RESP_H
#define RESP_H
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Connects to "127.0.0.1:6379". Returns the socket, or -1 with errno set. */
static inline int resp_connect(const char *address)
{
    struct sockaddr_in peer = {.sin_family = AF_INET};
    char host[64] = "";
    unsigned short port = 0;
    if (sscanf(address, "%63[^:]:%hu", host, &port) != 2 || inet_pton(AF_INET, host, &peer.sin_addr) != 1) {
        errno = EINVAL;
        return -1;
    }
    peer.sin_port = htons(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd < 0 || connect(fd, (struct sockaddr *)&peer, sizeof peer) < 0 ? -1 : fd;
}

/* Sends all of it, waiting where the socket is full. Returns 0 if the connection is lost. */
static inline int resp_send(int fd, const char *bytes, size_t length)
{
    for (ssize_t sent; length > 0; bytes += sent, length -= sent)
        if ((sent = send(fd, bytes, length, MSG_NOSIGNAL)) < 0)
            return 0;
    return 1;
}

/* Reads "<type><number>\r\n" and moves *at behind it. Returns 0 if it is not whole yet. */
static inline int resp_number(const char **at, const char *end, char type, long *number)
{
    const char *line_end = memchr(*at, '\n', end - *at);
    if (!line_end)
        return 0;
    if (**at != type) {
        fprintf(stderr, "unexpected answer of Redis: %.*s\n", (int)(line_end - *at), *at);
        exit(1);
    }
    *number = atol(*at + 1);
    *at = line_end + 1;
    return 1;
}

static inline int resp_text(const char **at, const char *end, const char **text, long *length)
{
    if (!resp_number(at, end, '$', length) || end - *at < *length + 2)
        return 0;
    *text = *at;
    *at += *length + 2;
    return 1;
}

#endif
