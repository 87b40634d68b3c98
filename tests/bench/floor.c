/* The two-syscall floor of an HTTP server: `floor PORT ANSWER` listens on 127.0.0.1 and answers every request with the
 * bytes of the file ANSWER. One recv and one send a request, on keep-alive connections, in one thread. It parses
 * nothing: a client sends a whole request at once and waits for its answer, as wrk does. SIGTERM ends it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 64, BACKLOG = 2048, BYTES = 65536 };

static char answer[BYTES];
static size_t answer_length;
static char request[BYTES];

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void read_answer(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        fail(path);
    answer_length = fread(answer, 1, sizeof answer, file);
    fclose(file);
}

static int listen_on(int port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, BACKLOG) < 0)
        fail("listen");
    return listener;
}

static void watch(int poll, int socket)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = socket};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, socket, &event) < 0)
        fail("epoll_ctl");
}

static void accept_all(int poll, int listener)
{
    int on = 1, client;
    while ((client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        watch(poll, client);
    }
}

/* A client that closed, or that does not read its answers, is closed; closing takes it out of the poll. */
static void answer_one(int client)
{
    ssize_t received = recv(client, request, sizeof request, 0);
    if (received < 0 && errno == EAGAIN)
        return;
    if (received <= 0 || send(client, answer, answer_length, MSG_NOSIGNAL) != (ssize_t)answer_length)
        close(client);
}

int main(int count, char **words)
{
    struct epoll_event events[EVENTS];
    if (count != 3) {
        fputs("usage: floor PORT ANSWER\n", stderr);
        return 2;
    }
    read_answer(words[2]);
    int listener = listen_on(atoi(words[1]));
    int poll = epoll_create1(EPOLL_CLOEXEC);
    if (poll < 0)
        fail("epoll_create1");
    watch(poll, listener);
    for (;;) {
        int ready = epoll_wait(poll, events, EVENTS, -1);
        if (ready < 0 && errno != EINTR)
            fail("epoll_wait");
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd == listener)
                accept_all(poll, listener);
            else
                answer_one(events[i].data.fd);
        }
    }
}
