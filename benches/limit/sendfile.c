/* The ceiling of serving from files: the head with MSG_MORE, the body by sendfile(2). */
#include "limit.h"

static int load_file(struct file *file) {
    (void)file;
    return 0;
}

static int send_some(struct connection *c) {
    struct file *file = c->file;
    while (c->sent < file->head_length) {
        ssize_t count = send(c->fd, file->bytes + c->sent, file->head_length - c->sent, MSG_MORE | MSG_NOSIGNAL);
        if (count < 0) return errno == EAGAIN ? 0 : -1;
        c->sent += count;
    }
    while (c->sent < file->head_length + file->size) {
        off_t offset = c->sent - file->head_length;
        ssize_t count = sendfile(c->fd, file->fd, &offset, file->size - offset);
        if (count <= 0) return count < 0 && errno == EAGAIN ? 0 : -1;
        c->sent += count;
    }
    return 1;
}
