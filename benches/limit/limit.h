/* What the two limit servers share: one thread, epoll, keep-alive, a table of files that are opened
 * once. No proxying, no log, no checks of anything: what is left is what the machine allows. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define TABLE (1 << 21)
#define EVENTS 256
#define REQUEST 4096

struct file {
    char *path;
    int fd;
    size_t head_length, size;
    char *bytes; /* the head; in memory.c the body is behind it */
};

struct connection {
    int fd, writing;
    size_t have;
    struct file *file; /* being sent, from `sent` on, the head included */
    size_t sent;
    char request[REQUEST];
};

/* Each server has these two. */
static int load_file(struct file *file);
static int send_some(struct connection *connection); /* 1: all sent, 0: later, -1: failed */

static struct file *table[TABLE];
static const char *directory;
static int epoll;

static struct file *find(const char *path, size_t length) {
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < length; i++) hash = (hash ^ (unsigned char)path[i]) * 0x100000001b3;
    size_t place = hash % TABLE;
    while (table[place] && (strncmp(table[place]->path, path, length) || table[place]->path[length])) place = (place + 1) % TABLE;
    if (table[place]) return table[place];
    char name[1024];
    struct stat info;
    snprintf(name, sizeof name, "%s%.*s", directory, (int)length, path);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) || !S_ISREG(info.st_mode)) return NULL;
    struct file *file = calloc(1, sizeof *file);
    char head[256];
    file->head_length = snprintf(head, sizeof head,
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %lld\r\n\r\n", (long long)info.st_size);
    file->path = strndup(path, length);
    file->fd = fd;
    file->size = info.st_size;
    file->bytes = strdup(head);
    if (load_file(file)) return NULL;
    return table[place] = file;
}

static void drop(struct connection *connection) {
    close(connection->fd);
    free(connection);
}

/* Answers what has been asked, in turn. Drops the connection when it ends or fails. */
static void serve(struct connection *c) {
    for (;;) {
        if (c->file) {
            int done = send_some(c);
            if (done < 0) return drop(c);
            if (c->writing == done) {
                struct epoll_event event = {.events = done ? EPOLLIN : EPOLLOUT, .data.ptr = c};
                epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event);
                c->writing = !done;
            }
            if (!done) return;
            c->file = NULL;
        }
        char *end = memmem(c->request, c->have, "\r\n\r\n", 4);
        if (!end) {
            ssize_t count = recv(c->fd, c->request + c->have, REQUEST - c->have, 0);
            if (count <= 0 && !(count < 0 && errno == EAGAIN)) return drop(c);
            if (count < 0) return;
            c->have += count;
            end = memmem(c->request, c->have, "\r\n\r\n", 4);
            if (!end) return;
        }
        char *path = memchr(c->request, ' ', c->have);
        char *behind = path ? memchr(path + 1, ' ', end - path - 1) : NULL;
        if (!behind || !(c->file = find(path + 1, behind - path - 1))) return drop(c);
        c->sent = 0;
        c->have -= end + 4 - c->request;
        memmove(c->request, end + 4, c->have);
    }
}

static void accept_all(int listener) {
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *connection = calloc(1, sizeof *connection);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
        connection->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    }
}

int main(int count, char **words) {
    if (count != 3) return fprintf(stderr, "usage: %s PORT DIRECTORY\n", words[0]), 2;
    directory = words[2];
    signal(SIGPIPE, SIG_IGN);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 4096)) return perror("bind"), 1;
    epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN}, events[EVENTS];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr) serve(events[i].data.ptr);
            else accept_all(listener);
        }
    }
}
