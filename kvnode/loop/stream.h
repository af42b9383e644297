/* A byte stream on the node's loop, with bounded buffers in both directions: a
 * socket, or a descriptor for each direction. Clients and peer links are both
 * streams. Loop thread only; SIGPIPE is ignored.
 *
 * Output is collected during a turn of the loop and written once at its end
 * (streams_flush), so that many small answers cost one system call. When the
 * other side does not read and more than pause_at bytes wait, the stream stops
 * reading: who asks faster than he listens is slowed down, nobody else is. */
#ifndef KVFS_KVNODE_LOOP_STREAM_H
#define KVFS_KVNODE_LOOP_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>
#include <uv.h>

#include "sync/base/buffer.h"
#include "sync/wire/frame.h"

struct stream;
struct turn;
TAILQ_HEAD(stream_list, stream);

/* All streams of one loop that have something to write or to close. */
struct streams {
    uv_loop_t *loop; /* borrowed */
    struct stream_list dirty;
    uv_idle_t idle;    /* active while something is left for the next turn */
    uint64_t until_ns; /* clock_boot_ns(): when frames have had their time, 0: none was handled yet */
    struct turn *turn; /* borrowed: is told of each frame; may be NULL */
};

struct stream_callbacks {
    void *arg;
    /* One frame; borrowed for the call. 0, or a negative errno: close. */
    int (*on_frame)(void *arg, const struct frame *frame);
    /* The stream has ended (0: end of file) or broke (negative errno), or
     * stream_close() was called (-ECANCELED). Called once, from the loop, never
     * from inside another call on the stream; the stream is freed after it. */
    void (*on_closed)(void *arg, int reason);
};

void streams_init(struct streams *all, uv_loop_t *loop);
void streams_deinit(struct streams *all); /* all streams are gone */
/* Takes the descriptor to read from and the one to write to, which may be the same
 * (also on failure): non-blocking from here on. 0 or a negative errno. */
int stream_open(struct streams *all, int in, int out, const struct stream_callbacks *callbacks,
                size_t pause_at, struct stream **stream_out);
/* A stream without descriptors, for who speaks the protocol in this process. What is written is handed to
 * take(callbacks->arg, …) at the end of the turn, whole frames; it returns how many bytes it has had, whole
 * frames too: what it has no time for comes again in the next turn. on_closed is called as of any stream. 0
 * or -ENOMEM. */
typedef size_t stream_taker(void *arg, const uint8_t *data, size_t len);
int stream_open_local(struct streams *all, const struct stream_callbacks *callbacks, stream_taker *take,
                      struct stream **stream_out);
/* Input of such a stream: handled at once, as far as this turn has time for it and it reads. */
void stream_feed(struct stream *s, const void *frames, size_t len);
size_t stream_waiting(const struct stream *s); /* bytes of it that are not handled yet */
/* Where to append output; it leaves at the end of the turn. After stream_close()
 * a sink whose content is thrown away. */
struct buffer *stream_output(struct stream *s);
size_t stream_pending(const struct stream *s); /* bytes not yet written */
/* Stops reading until stream_resume(): its user has too much in hand. */
void stream_pause(struct stream *s);
void stream_resume(struct stream *s);
void stream_close(struct stream *s);
/* Closes after what is pending was written (at most what the socket takes now). */
void stream_finish(struct stream *s);
/* End of a turn: writes, closes, handles input that had to wait. Frames are handled
 * for TURN_INPUT_NS as they come and as long again here, and at least one each. All
 * that has TURN_OUTPUT_NS; what is left then is first in the next turn. */
void streams_flush(struct streams *all);
/* The same without a limit: no turn follows. */
void streams_flush_last(struct streams *all);

#endif
