/* The ceiling of serving from memory: head and body in one send(2). */
#include "limit.h"

static int load_file(struct file *file) {
    size_t done = 0;
    file->bytes = realloc(file->bytes, file->head_length + file->size);
    while (file->bytes && done < file->size) {
        ssize_t count = read(file->fd, file->bytes + file->head_length + done, file->size - done);
        if (count <= 0) return -1;
        done += count;
    }
    close(file->fd);
    return file->bytes ? 0 : -1;
}

static int send_some(struct connection *c) {
    struct file *file = c->file;
    size_t whole = file->head_length + file->size;
    while (c->sent < whole) {
        ssize_t count = send(c->fd, file->bytes + c->sent, whole - c->sent, MSG_NOSIGNAL);
        if (count < 0) return errno == EAGAIN ? 0 : -1;
        c->sent += count;
    }
    return 1;
}
