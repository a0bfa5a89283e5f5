/* A WebSocket server that only sends: the floor under what one delivery costs.
 *
 * It subscribes to every channel of a Redis or Valkey server once. A record that comes in becomes one frame, and the
 * frame one send() to each client who watches that channel. A client of user i watches the users next to i (see usage).
 *
 * A client whose socket takes no more has a backlog of 64 KiB. What does not fit is dropped in whole frames and
 * counted; the count is told on standard error at the end (SIGTERM). A lost Redis connection ends the program.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "resp.h"
#include "websocket.h"

enum {
    EVENTS = 256,
    REQUEST_BYTES = 2048, /* of an upgrade request, and of what is kept of unfinished client frames */
    BACKLOG_BYTES = 65536,
    RECORD_BYTES = 16384, /* the largest record */
    REDIS_BYTES = 262144,
};

static const char SUBSCRIBED[] = "{\"type\":\"subscribed\"}";

struct client {
    int fd;
    long user; /* -1 until the upgrade */
    int dead;  /* shut down; epoll will say so, and then it is freed */
    size_t received, waiting;
    char *backlog; /* NULL while nothing waits */
    char request[REQUEST_BYTES];
};

struct channel {
    struct client **watchers;
    size_t count, capacity;
};

static struct channel *channels;
static long users, friends = 40, confirmed;
static unsigned long dropped;
static int epoll, listener = -1, redis = -1;
static char redis_input[REDIS_BYTES];
static size_t redis_received;
static volatile sig_atomic_t stopping;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void stop(int signal_number)
{
    (void)signal_number;
    stopping = 1;
}

static void watch_events(int operation, int fd, uint32_t events, void *owner)
{
    struct epoll_event event = {.events = events, .data.ptr = owner};
    if (epoll_ctl(epoll, operation, fd, &event) < 0)
        fail("epoll_ctl");
}

/* ---- what a client watches ---- */

static struct channel *channel_beside(long user, long distance)
{
    return &channels[((user + distance) % users + users) % users];
}

static void add_watcher(struct channel *channel, struct client *client)
{
    if (channel->count == channel->capacity) {
        channel->capacity = channel->capacity ? 2 * channel->capacity : 8;
        channel->watchers = realloc(channel->watchers, channel->capacity * sizeof(struct client *));
        if (!channel->watchers)
            fail("realloc");
    }
    channel->watchers[channel->count++] = client;
}

static void remove_watcher(struct channel *channel, struct client *client)
{
    for (size_t at = 0; at < channel->count; at++)
        if (channel->watchers[at] == client) {
            channel->watchers[at] = channel->watchers[--channel->count];
            return;
        }
}

static void change_friends(struct client *client, void (*change)(struct channel *, struct client *))
{
    for (long distance = 1; distance <= friends / 2; distance++) {
        change(channel_beside(client->user, distance), client);
        change(channel_beside(client->user, -distance), client);
    }
}

static void drop_client(struct client *client)
{
    if (client->user >= 0)
        change_friends(client, remove_watcher);
    close(client->fd);
    free(client->backlog);
    free(client);
}

/* ---- sending ---- */

static void shut_down(struct client *client)
{
    client->dead = 1;
    shutdown(client->fd, SHUT_RDWR);
}

static void keep(struct client *client, const char *bytes, size_t length)
{
    if (client->waiting + length > BACKLOG_BYTES) {
        dropped++;
        return;
    }
    if (!client->backlog) {
        client->backlog = malloc(BACKLOG_BYTES);
        if (!client->backlog)
            fail("malloc");
        watch_events(EPOLL_CTL_MOD, client->fd, EPOLLIN | EPOLLOUT, client);
    }
    memcpy(client->backlog + client->waiting, bytes, length);
    client->waiting += length;
}

static void deliver(struct client *client, const char *frame, size_t length)
{
    ssize_t sent = 0;
    if (client->dead)
        return;
    if (!client->backlog) {
        sent = send(client->fd, frame, length, MSG_NOSIGNAL);
        if (sent == (ssize_t)length)
            return;
        if (sent < 0 && errno != EAGAIN) {
            shut_down(client);
            return;
        }
    }
    sent = sent < 0 ? 0 : sent;
    keep(client, frame + sent, length - sent);
}

static void flush_backlog(struct client *client)
{
    ssize_t sent = send(client->fd, client->backlog, client->waiting, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN)
            shut_down(client);
        return;
    }
    client->waiting -= sent;
    memmove(client->backlog, client->backlog + sent, client->waiting);
    if (client->waiting == 0) {
        free(client->backlog);
        client->backlog = NULL;
        watch_events(EPOLL_CTL_MOD, client->fd, EPOLLIN, client);
    }
}

/* ---- the upgrade ---- */

/* Answers "GET /?user=17", subscribes, and says so in a first frame. Waits for more while the request is not whole. */
static void upgrade(struct client *client)
{
    char answer[256], accept[29];
    client->request[client->received] = 0;
    if (!strstr(client->request, "\r\n\r\n")) {
        if (client->received == REQUEST_BYTES - 1)
            shut_down(client);
        return;
    }
    const char *key = strcasestr(client->request, "\r\nSec-WebSocket-Key:"), *user = strstr(client->request, "?user=");
    long number = user ? atol(user + strlen("?user=")) : -1;
    if (key)
        key += strlen("\r\nSec-WebSocket-Key:") + strspn(key + strlen("\r\nSec-WebSocket-Key:"), " ");
    if (!key || strcspn(key, "\r") < 24 || number < 0 || number >= users) {
        deliver(client, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", 47);
        shut_down(client);
        return;
    }
    accept_value(key, accept);
    int length = snprintf(answer, sizeof answer,
                          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Accept: %s\r\n\r\n",
                          accept);
    length += (int)make_frame(answer + length, 1, SUBSCRIBED, sizeof SUBSCRIBED - 1);
    client->user = number;
    client->received = 0;
    change_friends(client, add_watcher);
    deliver(client, answer, length);
}

/* ---- what clients say: pings and closes are answered, the rest is nothing to us ---- */

/* Returns the length of the first frame, or 0 if it is not whole yet. */
static size_t take_frame(struct client *client, const unsigned char *input, size_t received)
{
    char answer[128 + 4], payload[128];
    if (received < 2)
        return 0;
    size_t length = input[1] & 127, header = 6;
    if (length == 126 && received >= 4)
        length = (size_t)input[2] << 8 | input[3], header = 8;
    if (header + length > REQUEST_BYTES - 1 || !(input[1] & 128))
        shut_down(client);
    if (client->dead || header + length > received || (length == 126 && header == 6))
        return 0;
    unsigned opcode = input[0] & 15;
    if ((opcode == 8 || opcode == 9) && length < 126) {
        for (size_t at = 0; at < length; at++)
            payload[at] = (char)(input[header + at] ^ input[header - 4 + at % 4]);
        deliver(client, answer, make_frame(answer, opcode == 9 ? 10 : 8, payload, length));
        if (opcode == 8)
            shut_down(client);
    }
    return header + length;
}

static void read_client(struct client *client)
{
    ssize_t got = recv(client->fd, client->request + client->received, REQUEST_BYTES - 1 - client->received, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        drop_client(client);
        return;
    }
    client->received += got;
    if (client->user < 0) {
        upgrade(client);
        return;
    }
    size_t taken = 0, length;
    while ((length = take_frame(client, (unsigned char *)client->request + taken, client->received - taken)) > 0)
        taken += length;
    client->received -= taken;
    memmove(client->request, client->request + taken, client->received);
}

static void accept_clients(void)
{
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct client *client = calloc(1, sizeof *client);
        if (!client)
            fail("calloc");
        client->fd = fd;
        client->user = -1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        watch_events(EPOLL_CTL_ADD, fd, EPOLLIN, client);
    }
    if (errno != EAGAIN && errno != ECONNABORTED)
        fail("accept");
}

/* ---- Redis (RESP2): arrays of three, ("message", channel, record) or ("subscribe", channel, count) ---- */

static void fan_out(const char *channel_name, const char *record, long length)
{
    static char frame[RECORD_BYTES + 4];
    long number = atol(channel_name + strlen("loc:"));
    if (length > RECORD_BYTES || number < 0 || number >= users)
        return;
    size_t frame_length = make_frame(frame, 1, record, length);
    struct channel *channel = &channels[number];
    for (size_t at = 0; at < channel->count; at++)
        deliver(channel->watchers[at], frame, frame_length);
}

/* Returns how many bytes the first array takes, or 0 if it is not whole yet. */
static size_t take_push(const char *input, size_t received)
{
    const char *at = input, *end = input + received, *kind, *channel_name, *record;
    long number, length;
    if (!resp_number(&at, end, '*', &number) || !resp_text(&at, end, &kind, &length) ||
        !resp_text(&at, end, &channel_name, &length))
        return 0;
    if (*kind == 's') {
        if (!resp_number(&at, end, ':', &confirmed))
            return 0;
    } else {
        if (!resp_text(&at, end, &record, &length))
            return 0;
        fan_out(channel_name, record, length);
    }
    return at - input;
}

static void read_redis(void)
{
    ssize_t got = recv(redis, redis_input + redis_received, REDIS_BYTES - redis_received, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0)
        fail("the Redis connection is lost");
    redis_received += got;
    size_t taken = 0, length;
    while ((length = take_push(redis_input + taken, redis_received - taken)) > 0)
        taken += length;
    redis_received -= taken;
    memmove(redis_input, redis_input + taken, redis_received);
}

/* Connects, subscribes to every channel and returns when that is confirmed. */
static void open_redis(const char *address)
{
    char *command = malloc(64 * (users + 1));
    redis = resp_connect(address);
    if (!command || redis < 0)
        fail(address);
    size_t length = sprintf(command, "*%ld\r\n$9\r\nSUBSCRIBE\r\n", users + 1);
    for (long user = 0; user < users; user++)
        length += sprintf(command + length, "$%d\r\nloc:%ld\r\n", snprintf(NULL, 0, "loc:%ld", user), user);
    if (!resp_send(redis, command, length))
        fail(address);
    free(command);
    while (confirmed < users)
        read_redis();
    watch_events(EPOLL_CTL_ADD, redis, EPOLLIN, &redis);
}

/* ---- the program ---- */

static void open_listener(unsigned short port)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (listener < 0 || bind(listener, (struct sockaddr *)&here, sizeof here) < 0 || listen(listener, SOMAXCONN) < 0)
        fail("listen");
    watch_events(EPOLL_CTL_ADD, listener, EPOLLIN, &listener);
}

static void serve(const struct epoll_event *event)
{
    if (event->data.ptr == &listener)
        accept_clients();
    else if (event->data.ptr == &redis)
        read_redis();
    else if (event->events & EPOLLOUT && !((struct client *)event->data.ptr)->dead)
        flush_backlog(event->data.ptr);
    else
        read_client(event->data.ptr);
}

static void usage(void)
{
    fputs("usage: sender --port PORT --redis HOST:PORT --users N [--friends 40]\n"
          "Friends are an even number below N: half of them on either side of a user, modulo N.\n",
          stderr);
    exit(2);
}

int main(int count, char **words)
{
    static const struct option options[] = {{"port", required_argument, NULL, 'p'},
                                            {"redis", required_argument, NULL, 'r'},
                                            {"users", required_argument, NULL, 'u'},
                                            {"friends", required_argument, NULL, 'f'},
                                            {0}};
    const char *redis_address = NULL;
    int option, port = 0;
    while ((option = getopt_long(count, words, "", options, NULL)) >= 0)
        switch (option) {
        case 'p': port = atoi(optarg); break;
        case 'r': redis_address = optarg; break;
        case 'u': users = atol(optarg); break;
        case 'f': friends = atol(optarg); break;
        default: usage();
        }
    if (!port || !redis_address || friends < 2 || friends % 2 || friends >= users)
        usage();
    signal(SIGTERM, stop);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    channels = calloc(users, sizeof *channels);
    if (epoll < 0 || !channels)
        fail("start");
    open_redis(redis_address);
    open_listener((unsigned short)port);
    puts("ready");
    fflush(stdout);
    while (!stopping) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int at = 0; at < ready; at++)
            serve(&events[at]);
    }
    fprintf(stderr, "dropped %lu frames\n", dropped);
    return 0;
}
