/* A crowd of WebSocket clients in one thread, for benchmarks: as little work per received frame as can be.
 *
 *   crowd HOST PORT FILE MARKER READY [PING PONG]
 *
 * FILE holds one client after the other: the upgrade request, the messages that the client sends once it is open, and
 * what it reports when told to; each as a 4-byte little-endian length and that many bytes, the messages themselves again
 * one after the other in the same way. Messages go as text frames. MARKER occurs once per delivery in what is received; READY in the message that makes a client ready
 * ("" if the upgrade does). PING is a message that is answered by PONG.
 *
 * Commands on standard input, each answered by one line on standard output:
 *   connect N    connect all, N at a time (0: all at once); the answer comes when all are ready, or after a minute
 *   reset        set the counts to zero
 *   stats        say the counts
 *   cpu          say the CPU time of this process, seconds
 *   pace N       all together report N times a second, one after the other, until told otherwise; 0: none
 *   flood        every client reports, and again whenever something with MARKER came in for it
 *   calm         no more of that
 *   record PATH  write each message to PATH: client and length, 4 bytes each, and the message
 *   drop         reset all connections at once, so that the server sees them go
 *   storm        drop, and all come back at once; who is refused tries again as clients do, with full jitter
 *
 * Each socket has the address 127.0.0.(1 + i % 8), since a pair of addresses has 28,000 ports.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER_BYTES = 1 << 20, EVENTS = 512, LATENCIES_MS = 60000, CONNECT_TIMEOUT_S = 60 };
enum state { IDLE, CONNECTING, UPGRADING, OPEN, READY, CLOSED };

struct text { const char *data; uint32_t size; };
struct client {
    struct text request, hello, report;
    int fd;
    enum state state;
    char *rest; /* the beginning of a frame whose end has not come yet */
    size_t rest_size;
    double began_s, again_s;
    int attempts;
};

static const struct timespec NAP = {0, 500000};
static struct sockaddr_in server;
static struct client *clients;
static size_t client_count, next_client, ready_count, connecting_count;
static int epoll_fd;
static struct text marker, ready, ping, pong;
static const struct text stamp = {"\"updated_at_ms\":", 16};
static uint64_t frames, bytes, deliveries, closes, failures;
static uint64_t latency_ms[LATENCIES_MS];
static double ready_total_s;
static int flooding, storming;
static double pace_per_s, paced_since_s;
static uint64_t paced;
static uint32_t accepted[3600]; /* in each second of a storm */
static double storm_began_s;
static FILE *record;
static char buffer[BUFFER_BYTES];

static struct text next_text(const char **at) {
    struct text text;
    memcpy(&text.size, *at, 4);
    text.data = *at + 4;
    *at += 4 + text.size;
    return text;
}

static double now_s(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void forget(struct client *client) {
    if (client->fd >= 0) close(client->fd);
    client->fd = -1;
    free(client->rest);
    client->rest = NULL;
    client->rest_size = 0;
}

static void fail(struct client *client) {
    if (client->state == READY) { closes++; ready_count--; }
    else { failures++; connecting_count--; }
    client->state = CLOSED;
    forget(client);
}

static void send_all(struct client *client, const char *data, size_t size) {
    /* What a client says is short and the socket's buffer empty: a partial write is a failure of the benchmark. */
    if (send(client->fd, data, size, MSG_NOSIGNAL) != (ssize_t)size) fail(client);
}

static void send_frame(struct client *client, int opcode, struct text message) {
    char frame[14 + 65536];
    size_t head = 2;
    if (message.size == 0 && opcode == 1) return;
    frame[0] = (char)(0x80 | opcode);
    if (message.size < 126) frame[1] = (char)(0x80 | message.size);
    else {
        frame[1] = (char)(0x80 | 126);
        frame[2] = (char)(message.size >> 8);
        frame[3] = (char)message.size;
        head = 4;
    }
    memset(frame + head, 0, 4); /* a mask of zeros leaves the message as it is */
    memcpy(frame + head + 4, message.data, message.size);
    send_all(client, frame, head + 4 + message.size);
}

static void back_off(struct client *client);
static void turn(void);

static void start(struct client *client) {
    size_t number = (size_t)(client - clients);
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001 + number % 8)};
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = client};
    int on = 1;
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (client->fd < 0) die("socket");
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(client->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(client->fd, (struct sockaddr *)&own, sizeof own)) die("bind");
    client->began_s = now_s(CLOCK_MONOTONIC);
    client->state = CONNECTING;
    connecting_count++;
    if (connect(client->fd, (struct sockaddr *)&server, sizeof server) && errno != EINPROGRESS) {
        fail(client);
        return;
    }
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, client->fd, &event)) die("epoll_ctl");
}

/* Full jitter: random(0, min(30 s, 0.5 s * 2^n)). */
static void back_off(struct client *client) {
    double most_s = client->attempts < 6 ? 0.5 * (1 << client->attempts) : 30;
    client->attempts++;
    client->state = IDLE;
    client->again_s = now_s(CLOCK_MONOTONIC) + most_s * random() / RAND_MAX;
}

static void become_ready(struct client *client) {
    client->state = READY;
    ready_count++;
    connecting_count--;
    ready_total_s += now_s(CLOCK_MONOTONIC) - client->began_s;
}

static void take_message(struct client *client, const char *data, size_t size, int64_t now_ms) {
    const char *at = data, *end = data + size, *found;
    frames++;
    bytes += size;
    if (record) {
        uint32_t head[2] = {(uint32_t)(client - clients), (uint32_t)size};
        fwrite(head, sizeof head, 1, record);
        fwrite(data, size, 1, record);
    }
    if (client->state == OPEN && memmem(data, size, ready.data, ready.size)) become_ready(client);
    if (ping.size == size && ping.size && !memcmp(data, ping.data, size)) send_frame(client, 1, pong);
    while ((found = memmem(at, (size_t)(end - at), marker.data, marker.size))) {
        const char *dated = memmem(found, (size_t)(end - found), stamp.data, stamp.size);
        deliveries++;
        at = found + marker.size;
        if (dated) {
            int64_t sent_ms = 0, waited_ms;
            for (dated += stamp.size; dated < end && *dated >= '0' && *dated <= '9'; dated++)
                sent_ms = sent_ms * 10 + (*dated - '0');
            waited_ms = now_ms - sent_ms;
            latency_ms[waited_ms < 0 ? 0 : waited_ms >= LATENCIES_MS ? LATENCIES_MS - 1 : waited_ms]++;
        }
        if (flooding && client->state == READY) send_frame(client, 1, client->report);
    }
}

/* Take all whole frames of data; return how many bytes they were. */
static size_t take_frames(struct client *client, const char *data, size_t size, int64_t now_ms) {
    size_t done = 0;
    while (size - done >= 2 && client->fd >= 0) {
        const unsigned char *head = (const unsigned char *)data + done;
        size_t length = head[1] & 0x7f, head_size = 2, left = size - done;
        if (length == 126) {
            if (left < 4) break;
            length = (size_t)head[2] << 8 | head[3];
            head_size = 4;
        } else if (length == 127) {
            if (left < 10) break;
            length = 0;
            for (int i = 2; i < 10; i++) length = length << 8 | head[i];
            head_size = 10;
        }
        if (left < head_size + length) break;
        struct text payload = {data + done + head_size, (uint32_t)length};
        done += head_size + length;
        switch (head[0] & 0x0f) {
        case 1: case 2: take_message(client, payload.data, length, now_ms); break;
        case 9: send_frame(client, 10, payload); break;
        case 8: fail(client); break;
        }
    }
    return done;
}

static size_t take_upgrade(struct client *client, const char *data, size_t size) {
    const char *end = memmem(data, size, "\r\n\r\n", 4);
    if (!end) return 0;
    if (size < 12 || memcmp(data, "HTTP/1.1 101", 12)) {
        fail(client);
        if (storming) back_off(client);
        return size;
    }
    if (storming) accepted[(int)(now_s(CLOCK_MONOTONIC) - storm_began_s)]++;
    client->state = OPEN;
    for (const char *at = client->hello.data; at < client->hello.data + client->hello.size && client->fd >= 0;)
        send_frame(client, 1, next_text(&at));
    if (client->state == OPEN && !ready.size) become_ready(client);
    return (size_t)(end + 4 - data);
}

static void readable(struct client *client) {
    size_t kept = client->rest_size, done = 0, size;
    ssize_t count;
    if (kept) memcpy(buffer, client->rest, kept);
    count = recv(client->fd, buffer + kept, BUFFER_BYTES - kept, 0);
    if (count <= 0) {
        if (count == 0 || (errno != EAGAIN && errno != EINTR)) fail(client);
        return;
    }
    size = kept + (size_t)count;
    if (client->state == UPGRADING) done = take_upgrade(client, buffer, size);
    if (client->fd >= 0 && client->state >= OPEN)
        done += take_frames(client, buffer + done, size - done, (int64_t)(now_s(CLOCK_REALTIME) * 1000));
    if (client->fd < 0) return;
    size -= done;
    if (size > client->rest_size) client->rest = realloc(client->rest, size);
    if (size) memcpy(client->rest, buffer + done, size);
    else if (client->rest_size) {
        free(client->rest);
        client->rest = NULL;
    }
    client->rest_size = size;
}

static void turn(void) {
    struct epoll_event events[EVENTS];
    int count = epoll_wait(epoll_fd, events, EVENTS, 0);
    /* Asleep it is woken by the clock, not by the server: to wake a client for each frame costs the sender a third of
     * its time, and more the slower it sends. */
    if (count == 0) nanosleep(&NAP, NULL);
    for (int i = 0; i < count; i++) {
        struct client *client = events[i].data.ptr;
        if (!client || client->fd < 0) continue;
        if (client->state == CONNECTING) {
            struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
            client->state = UPGRADING;
            epoll_ctl(epoll_fd, EPOLL_CTL_MOD, client->fd, &event);
            send_all(client, client->request.data, client->request.size);
        } else readable(client);
    }
}

static void connect_all(size_t at_once) {
    double began_s = now_s(CLOCK_MONOTONIC);
    next_client = 0;
    failures = 0;
    ready_total_s = 0;
    while (ready_count + failures < client_count && now_s(CLOCK_MONOTONIC) - began_s < CONNECT_TIMEOUT_S) {
        while (next_client < client_count && (!at_once || connecting_count < at_once)) start(&clients[next_client++]);
        turn();
    }
    printf("{\"ready\":%zu,\"failed\":%lu,\"seconds\":%.4f,\"mean_s\":%.4f}\n", ready_count, failures,
           now_s(CLOCK_MONOTONIC) - began_s, ready_count ? ready_total_s / (double)ready_count : 0);
}

static void report_in_turn(void) {
    uint64_t due = (uint64_t)((now_s(CLOCK_MONOTONIC) - paced_since_s) * pace_per_s);
    for (size_t tried = 0; paced < due && tried < client_count; tried++) {
        struct client *client = &clients[next_client++ % client_count];
        if (client->state != READY) continue;
        send_frame(client, 1, client->report);
        paced++;
    }
}

static void drop_all(void) {
    struct linger at_once = {1, 0};
    for (size_t i = 0; i < client_count; i++) {
        if (clients[i].fd < 0) continue;
        setsockopt(clients[i].fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        forget(&clients[i]);
        clients[i].state = IDLE;
    }
    ready_count = connecting_count = 0;
}

static void storm(void) {
    double began_s = now_s(CLOCK_MONOTONIC), now;
    uint32_t most = 0;
    drop_all();
    memset(accepted, 0, sizeof accepted);
    storming = 1;
    storm_began_s = began_s;
    for (size_t i = 0; i < client_count; i++) {
        clients[i].attempts = 0;
        back_off(&clients[i]);
    }
    while (ready_count < client_count && (now = now_s(CLOCK_MONOTONIC)) - began_s < 10 * CONNECT_TIMEOUT_S) {
        for (size_t i = 0; i < client_count; i++)
            if (clients[i].state == IDLE && clients[i].again_s <= now) start(&clients[i]);
        turn();
    }
    storming = 0;
    for (int second = 0; second < 3600; second++)
        if (accepted[second] > most) most = accepted[second];
    printf("{\"ready\":%zu,\"seconds\":%.4f,\"most_per_s\":%u}\n", ready_count, now_s(CLOCK_MONOTONIC) - began_s, most);
}

static double percentile(double part) {
    uint64_t total = 0, seen = 0;
    for (int ms = 0; ms < LATENCIES_MS; ms++) total += latency_ms[ms];
    for (int ms = 0; ms < LATENCIES_MS; ms++)
        if ((seen += latency_ms[ms]) && (double)seen >= part * (double)total) return ms;
    return -1;
}

static void stats(void) {
    printf("{\"frames\":%lu,\"bytes\":%lu,\"deliveries\":%lu,\"closes\":%lu,\"ready\":%zu,"
           "\"p50_ms\":%.0f,\"p99_ms\":%.0f,\"max_ms\":%.0f}\n",
           frames, bytes, deliveries, closes, ready_count, percentile(0.5), percentile(0.99), percentile(1));
}

static void command(char *line) {
    line[strcspn(line, "\n")] = 0;
    if (!strncmp(line, "connect ", 8)) connect_all((size_t)atol(line + 8));
    else if (!strcmp(line, "stats")) stats();
    else if (!strcmp(line, "drop")) {
        drop_all();
        puts("{}");
    } else if (!strcmp(line, "storm")) storm();
    else if (!strncmp(line, "pace ", 5)) {
        pace_per_s = atof(line + 5);
        paced_since_s = now_s(CLOCK_MONOTONIC);
        paced = 0;
        puts("{}");
    }
    else if (!strcmp(line, "cpu")) printf("{\"cpu_s\":%.4f}\n", now_s(CLOCK_PROCESS_CPUTIME_ID));
    else if (!strcmp(line, "reset")) {
        frames = bytes = deliveries = closes = 0;
        memset(latency_ms, 0, sizeof latency_ms);
        puts("{}");
    } else if (!strcmp(line, "flood")) {
        flooding = 1;
        for (size_t i = 0; i < client_count; i++)
            if (clients[i].state == READY) send_frame(&clients[i], 1, clients[i].report);
        puts("{}");
    } else if (!strcmp(line, "calm")) {
        flooding = 0;
        puts("{}");
    } else if (!strncmp(line, "record", 6)) {
        if (record) fclose(record);
        record = line[6] ? fopen(line + 7, "wb") : NULL;
        puts("{}");
    } else puts("{\"error\":\"no such command\"}");
    fflush(stdout);
}

static void load(const char *path) {
    struct stat about;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &about)) die(path);
    char *data = malloc((size_t)about.st_size + 1);
    const char *at = data;
    if (read(fd, data, (size_t)about.st_size) != about.st_size) die(path);
    close(fd);
    while (at < data + about.st_size) {
        if (client_count % 1024 == 0) clients = realloc(clients, (client_count + 1024) * sizeof *clients);
        struct client *client = &clients[client_count++];
        memset(client, 0, sizeof *client);
        client->fd = -1;
        client->request = next_text(&at);
        client->hello = next_text(&at);
        client->report = next_text(&at);
    }
}

static struct text argument(int count, char **arguments, int place) {
    struct text text = {place < count ? arguments[place] : "", 0};
    text.size = (uint32_t)strlen(text.data);
    return text;
}

int main(int count, char **arguments) {
    struct rlimit descriptors;
    if (count < 6) {
        fputs("usage: crowd HOST PORT FILE MARKER READY [PING PONG]\n", stderr);
        return 2;
    }
    getrlimit(RLIMIT_NOFILE, &descriptors);
    descriptors.rlim_cur = descriptors.rlim_max;
    setrlimit(RLIMIT_NOFILE, &descriptors);
    server.sin_family = AF_INET;
    server.sin_port = htons((uint16_t)atoi(arguments[2]));
    inet_pton(AF_INET, arguments[1], &server.sin_addr);
    marker = argument(count, arguments, 4);
    ready = argument(count, arguments, 5);
    ping = argument(count, arguments, 6);
    pong = argument(count, arguments, 7);
    load(arguments[3]);
    epoll_fd = epoll_create1(0);
    /* Standard input is watched beside the sockets; a command is one line, written at once. */
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &event)) die("standard input must be a pipe");
    for (;;) {
        char line[4096];
        turn();
        if (pace_per_s > 0) report_in_turn();
        struct timeval none = {0, 0};
        fd_set inputs;
        FD_ZERO(&inputs);
        FD_SET(STDIN_FILENO, &inputs);
        while (select(STDIN_FILENO + 1, &inputs, NULL, NULL, &none) > 0) {
            ssize_t size = read(STDIN_FILENO, line, sizeof line - 1);
            if (size <= 0) return 0;
            line[size] = 0;
            command(line);
        }
    }
}
