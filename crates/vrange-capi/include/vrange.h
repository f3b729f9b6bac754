#ifndef VRANGE_H
#define VRANGE_H

#include <stddef.h>
#include <stdint.h>

#define VRANGE_VERSION "0.1.0"
#define VRANGE_VERSION_MAJOR 0
#define VRANGE_VERSION_MINOR 1

/*
 For the field "flags" of the options: "reserve_bytes" is meant, even if it is 0.
 */
#define VRANGE_HEAP_RESERVE 1

/*
 For the field "flags" of the options: "max_unoffered_bytes" is meant, even if it is 0.
 */
#define VRANGE_HEAP_MAX_UNOFFERED 2

/*
 For the field "flags" of the options: core dumps include the buffers.
 */
#define VRANGE_HEAP_CORE_DUMP 4

/*
 For the field "order" of the options: the buffer that was unpinned longest ago goes first. This is the default.
 */
#define VRANGE_ORDER_COLDEST_FIRST 0

/*
 For the field "order" of the options: the buffer that was unpinned last goes first.
 */
#define VRANGE_ORDER_LATEST_FIRST 1

/*
 For the field "content" of the options: data worth keeping, offered only as memory gets short. This is the default.
 */
#define VRANGE_CONTENT_CACHE 0

/*
 For the field "content" of the options: garbage, offered soon and released after "decay_ms".
 */
#define VRANGE_CONTENT_FREE 1

/*
 Of a page, from vrange_query: it is not marked.
 */
#define VRANGE_MARK_NONE 0

/*
 Of a page, from vrange_query: it is marked, and the kernel cannot take it yet.
 */
#define VRANGE_MARK_FRESH 1

/*
 Of a page, from vrange_query: it is marked, and the kernel may have taken it.
 */
#define VRANGE_MARK_OFFERED 2

/*
 Of a page, from vrange_query: it is marked, and nothing of it is left to be taken.
 */
#define VRANGE_MARK_SETTLED 3

/*
 What a function that can fail returns, as an int.

 Less than 0 is a failure, and errno says the same in its own terms. Numbers are never used again for something else: -13
 to -15 are kept for kinds to come.
 */
typedef enum vrange_status {
    /*
     Done. Of a pin: every byte is as it was at the last unpin.
     */
    VRANGE_STATUS_OK = 0,
    /*
     Pinned, and some pages were lost: they read as zeros.
     */
    VRANGE_STATUS_PURGED = 1,
    /*
     A pointer that must not be null is. (EINVAL)
     */
    VRANGE_STATUS_NULL_POINTER = -1,
    /*
     A range has between 1 byte and 16 TiB. (EINVAL)
     */
    VRANGE_STATUS_INVALID_SIZE = -2,
    /*
     No address space for the range; look at ulimit -v, vm.overcommit_memory and vm.max_map_count. (ENOMEM)
     */
    VRANGE_STATUS_OUT_OF_ADDRESS_SPACE = -3,
    /*
     The heap's limit is smaller than the range. (ENOSPC)
     */
    VRANGE_STATUS_LIMIT_REACHED = -4,
    /*
     The heap has no room for another range. (ENOMEM)
     */
    VRANGE_STATUS_TOO_MANY_RANGES = -5,
    /*
     This kernel's page size is not 4 KiB. (ENOTSUP)
     */
    VRANGE_STATUS_UNSUPPORTED = -6,
    /*
     The settings contradict each other, or one of them is not known to this version. (EINVAL)
     */
    VRANGE_STATUS_INVALID_SETTINGS = -7,
    /*
     The address is not that of a page, or the length is less than a page and not 0. (EINVAL)
     */
    VRANGE_STATUS_INVALID_RANGE = -8,
    /*
     The memory is shared, backed by a file, or locked. (EINVAL)
     */
    VRANGE_STATUS_NOT_MARKABLE = -9,
    /*
     Part of the range is not mapped; the rest is marked. (ENOMEM)
     */
    VRANGE_STATUS_NOT_MAPPED = -10,
    /*
     Marked memory cannot be taken back because it cannot be written to; it stays marked. (EACCES)
     */
    VRANGE_STATUS_NOT_WRITABLE = -11,
    /*
     No memory for the notes that marks need. (EAGAIN)
     */
    VRANGE_STATUS_OUT_OF_MEMORY = -12,
    /*
     The kernel refuses; look at seccomp filters and at "vrange doctor". (EPERM)
     */
    VRANGE_STATUS_REFUSED = -16,
    /*
     It would have to wait for another thread. (EAGAIN)
     */
    VRANGE_STATUS_WOULD_WAIT = -17,
    /*
     The buffer is not pinned. (EINVAL)
     */
    VRANGE_STATUS_NOT_PINNED = -18,
    /*
     The buffer is pinned, or the kernel refused: a part of the contents stays. (EBUSY)
     */
    VRANGE_STATUS_BUSY = -19,
    /*
     A mistake of this library, of which standard error has more. (ENOTRECOVERABLE)
     */
    VRANGE_STATUS_INTERNAL = -20,
} vrange_status;

/*
 A range of bytes that the kernel may discard whenever it is not pinned.

 Its bytes are reached only between a pin and the unpin that belongs to it. Pins count. Any number of threads may have it pinned
 for reading at once; who pins it for writing has it alone.
 */
typedef struct vrange_buffer vrange_buffer;

/*
 Room for volatile buffers. Functions of different threads may use one heap at once.
 */
typedef struct vrange_heap vrange_heap;

/*
 A reclaimer without a thread, for one heap. Used by one thread at a time.
 */
typedef struct vrange_reclaimer vrange_reclaimer;

/*
 Lost bytes: a part of a buffer that begins at a page.
 */
typedef struct vrange_lost_run {
    /*
     Where it begins, in bytes from the buffer's start.
     */
    size_t offset;
    /*
     How long it is, in bytes.
     */
    size_t length;
} vrange_lost_run;

/*
 What a heap is to be like. Zeros are the defaults: set the fields you care about of a structure that is all zeros.
 */
typedef struct vrange_heap_options {
    /*
     A name for people, in UTF-8. NULL: "heap".
     */
    const char *name;
    /*
     The most bytes that buffers may hold together; the next in order are released for a pin that would exceed it. 0: no
     limit but memory itself.
     */
    uint64_t limit_bytes;
    /*
     The headroom that the reclaimer keeps. 0, without VRANGE_HEAP_RESERVE: by the size of the machine and of each memory
     cgroup.
     */
    uint64_t reserve_bytes;
    /*
     The most bytes that are volatile without having been offered to the kernel. 0, without VRANGE_HEAP_MAX_UNOFFERED: the
     reclaimer decides.
     */
    uint64_t max_unoffered_bytes;
    /*
     For VRANGE_CONTENT_FREE: how long garbage stays, in milliseconds. 0: ten seconds.
     */
    uint64_t decay_ms;
    /*
     VRANGE_ORDER_...
     */
    uint32_t order;
    /*
     VRANGE_CONTENT_...
     */
    uint32_t content;
    /*
     VRANGE_HEAP_..., added up.
     */
    uint32_t flags;
    /*
     Must be 0.
     */
    uint32_t reserved;
} vrange_heap_options;

/*
 A number of pages, also in bytes.
 */
typedef struct vrange_page_count {
    /*
     Pages of 4 KiB.
     */
    uint64_t pages;
    /*
     The same in bytes.
     */
    uint64_t bytes;
} vrange_page_count;

/*
 Ranges in one phase, at the moment of the snapshot.
 */
typedef struct vrange_range_count {
    /*
     How many ranges.
     */
    uint64_t ranges;
    /*
     Their length, whether or not all of it is in memory.
     */
    struct vrange_page_count length;
} vrange_range_count;

/*
 What a heap holds now and what has happened to it since it was made.

 The kernel discards pages without telling anybody, so "lost" and "rescued" grow when a range is pinned or released, not when
 its pages go.
 */
typedef struct vrange_heap_stats {
    /*
     Now: ranges with nothing in them, new or released.
     */
    struct vrange_range_count empty;
    /*
     Now: ranges in use.
     */
    struct vrange_range_count pinned;
    /*
     Now: ranges that are volatile and not offered; the kernel cannot take them yet.
     */
    struct vrange_range_count marked;
    /*
     Now: ranges offered to the kernel, which may have taken pages of them.
     */
    struct vrange_range_count offered_now;
    /*
     Now: ranges that are being offered, rescued or released at this moment.
     */
    struct vrange_range_count in_transit;
    /*
     In all: pages in memory that were handed to the kernel, each time counted anew.
     */
    struct vrange_page_count offered;
    /*
     In all: offered pages that were pinned again intact.
     */
    struct vrange_page_count rescued;
    /*
     In all: offered pages that the kernel had discarded.
     */
    struct vrange_page_count lost;
    /*
     In all: pages in memory that were dropped by request, by a limit, or ahead of need.
     */
    struct vrange_page_count released;
} vrange_heap_stats;

/*
 What the marks of the process add up to, and what has become of marked pages.
 */
typedef struct vrange_mark_stats {
    /*
     Now: marked pages that the kernel cannot take yet.
     */
    struct vrange_page_count marked;
    /*
     Now: marked pages that the kernel may have taken.
     */
    struct vrange_page_count offered_now;
    /*
     Now: marked pages of which nothing is left; they were never written, or were dropped.
     */
    struct vrange_page_count settled;
    /*
     In all: pages in memory that were handed to the kernel, each time counted anew.
     */
    struct vrange_page_count offered;
    /*
     In all: offered pages that were unmarked intact.
     */
    struct vrange_page_count rescued;
    /*
     In all: offered pages that the kernel had discarded.
     */
    struct vrange_page_count lost;
    /*
     In all: pages in memory that were dropped by request or ahead of need.
     */
    struct vrange_page_count released;
} vrange_mark_stats;

/*
 What a step did.
 */
typedef struct vrange_step {
    /*
     Bytes of memory handed to the kernel.
     */
    uint64_t offered_bytes;
    /*
     Bytes of memory dropped.
     */
    uint64_t released_bytes;
    /*
     Call again after this many nanoseconds at the latest; sooner does no harm. UINT64_MAX: the heap has ended.
     */
    uint64_t wait_ns;
} vrange_step;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Takes a buffer of "bytes" bytes from a heap, all zeros, not pinned. It takes no memory until it is written to. Buffers begin at a
 page; those of 2 MiB and more use huge pages where the kernel allows.

 Fails with VRANGE_STATUS_NULL_POINTER, VRANGE_STATUS_INVALID_SIZE, VRANGE_STATUS_LIMIT_REACHED, VRANGE_STATUS_OUT_OF_ADDRESS_SPACE,
 VRANGE_STATUS_TOO_MANY_RANGES.
 */
int vrange_buffer_new(const struct vrange_heap *heap,
                      size_t bytes,
                      struct vrange_buffer **buffer);

/*
 Gives a buffer and its memory back, pinned or not. NULL is no buffer, and fine.
 */
void vrange_buffer_free(struct vrange_buffer *buffer);

/*
 The length in bytes, as asked for. 0 for NULL.
 */
size_t vrange_buffer_size(const struct vrange_buffer *buffer);

/*
 Pins a buffer for reading and says where its bytes are. They stay as they are until vrange_buffer_unpin.

 Returns VRANGE_STATUS_OK, or VRANGE_STATUS_PURGED if pages were lost since the last unpin, or before and nobody has acknowledged it.

 One atomic operation if the buffer was not offered to the kernel; otherwise a look at each page (about 11 microseconds a MiB).
 Waits while another thread rescues or releases it, or offers a piece of it.

 Fails with VRANGE_STATUS_NULL_POINTER.
 */
int vrange_buffer_pin(const struct vrange_buffer *buffer,
                      const void **bytes);

/*
 As vrange_buffer_pin, and never waits for another thread.

 Fails with VRANGE_STATUS_WOULD_WAIT, VRANGE_STATUS_NULL_POINTER; then the buffer is not pinned.
 */
int vrange_buffer_try_pin(const struct vrange_buffer *buffer, const void **bytes);

/*
 Pins a buffer for writing and says where its bytes are. As vrange_buffer_pin; nobody else may have it pinned.

 After VRANGE_STATUS_PURGED, write what was lost (vrange_buffer_lost says where), then say so with vrange_buffer_acknowledge.
 */
int vrange_buffer_pin_mut(struct vrange_buffer *buffer,
                          void **bytes);

/*
 As vrange_buffer_pin_mut, and never waits for another thread.

 Fails with VRANGE_STATUS_WOULD_WAIT, VRANGE_STATUS_NULL_POINTER; then the buffer is not pinned.
 */
int vrange_buffer_try_pin_mut(struct vrange_buffer *buffer, void **bytes);

/*
 Ends one pin. With the last the buffer is volatile: its pages may vanish at any time, and its bytes must not be used until it is
 pinned again. One atomic operation, whatever its size; a system call only to wake a reclaimer that sleeps.

 Fails with VRANGE_STATUS_NULL_POINTER, and with VRANGE_STATUS_NOT_PINNED if there is no pin.
 */
int vrange_buffer_unpin(const struct vrange_buffer *buffer);

/*
 Says which bytes of a pinned buffer are lost: fills in up to "capacity" runs, in order, and returns how many there are. "runs" may
 be NULL if "capacity" is 0. Lost bytes read as zeros until they are written to.
 */
size_t vrange_buffer_lost(const struct vrange_buffer *buffer,
                          struct vrange_lost_run *runs,
                          size_t capacity);

/*
 Takes a buffer that is pinned for writing for intact from now on: what was lost has been written again, or zeros will do.

 Fails with VRANGE_STATUS_NULL_POINTER, and with VRANGE_STATUS_NOT_PINNED if it is not pinned.
 */
int vrange_buffer_acknowledge(struct vrange_buffer *buffer);

/*
 Hands the contents to the kernel now, which keeps them until memory is short.

 Fails with VRANGE_STATUS_NULL_POINTER, and with VRANGE_STATUS_BUSY if the buffer is pinned, empty or busy, or the kernel refuses.
 */
int vrange_buffer_offer(const struct vrange_buffer *buffer);

/*
 Drops the contents now. What had contents counts as lost for the next pin.

 Fails with VRANGE_STATUS_NULL_POINTER, and with VRANGE_STATUS_BUSY if the buffer is pinned or the kernel refuses.
 */
int vrange_buffer_release(const struct vrange_buffer *buffer);

/*
 Makes a heap. Its buffers are looked after by the process's reclaimer thread, from the first unpin on; before that there is
 no thread, no descriptor and no fork handler.

 "options" may be NULL, with a size of 0, for the defaults; else "options_size" is sizeof(vrange_heap_options).

 Fails with VRANGE_STATUS_NULL_POINTER, VRANGE_STATUS_INVALID_SETTINGS, VRANGE_STATUS_UNSUPPORTED.
 */
int vrange_heap_new(const struct vrange_heap_options *options,
                    size_t options_size,
                    struct vrange_heap **heap);

/*
 Makes a heap, and a reclaimer that the program drives itself with vrange_reclaimer_step: no thread is started for it.

 Fails as vrange_heap_new.
 */
int vrange_heap_new_manual(const struct vrange_heap_options *options,
                           size_t options_size,
                           struct vrange_heap **heap,
                           struct vrange_reclaimer **reclaimer);

/*
 Lets go of a heap. Its buffers live on until each is freed. NULL is no heap, and fine.
 */
void vrange_heap_free(struct vrange_heap *heap);

/*
 Hands the coldest buffers to the kernel until "bytes" bytes in memory are offered, or nothing is left. Returns how many. Their
 contents stay until memory is short. Costs about what madvise(MADV_FREE) does.
 */
uint64_t vrange_heap_offer(const struct vrange_heap *heap,
                           uint64_t bytes);

/*
 Drops the contents of the coldest buffers now, until "bytes" bytes of memory are free again, or nothing is left. Returns how
 many. Offered buffers go first.
 */
uint64_t vrange_heap_reclaim(const struct vrange_heap *heap,
                             uint64_t bytes);

/*
 Drops the contents of all buffers that are not pinned. Returns the bytes of memory freed.
 */
uint64_t vrange_heap_release(const struct vrange_heap *heap);

/*
 Counts. "stats_size" is sizeof(vrange_heap_stats). O(buffers), no lock, no system call.

 Fails with VRANGE_STATUS_NULL_POINTER.
 */
int vrange_heap_get_stats(const struct vrange_heap *heap,
                          struct vrange_heap_stats *stats,
                          size_t stats_size);

/*
 Starts the reclaimer now, instead of at the first mark of adopted memory, which then does not allocate. For a process whose
 allocator makes marks, and again in its children.

 Fails with VRANGE_STATUS_UNSUPPORTED.
 */
int vrange_prepare(void);

/*
 Promises to say so before a mapping ends: marks in it are deferred from now on, and cost nanoseconds.

 The range lies in a private anonymous mapping, readable and writable and not locked. Before any of it is unmapped, replaced, moved,
 locked, protected or kept from children (MADV_DONTFORK), vrange_abandon or vrange_forget is called for that part; otherwise data that is there afterwards is lost.
 Never allocates.

 Fails with VRANGE_STATUS_INVALID_RANGE, VRANGE_STATUS_UNSUPPORTED.
 */
int vrange_adopt(void *addr,
                 size_t length);

/*
 Takes adopted memory back from the library: its marks end, what was offered is taken back, and when this returns nothing is in
 progress on it. Pages that are found lost stay marked, so that the next unmark tells of them.

 Fails with VRANGE_STATUS_INVALID_RANGE, and as vrange_unmark.
 */
int vrange_abandon(void *addr,
                   size_t length);

/*
 As vrange_abandon, for memory whose contents are not wanted any more: nothing is taken back.

 Fails with VRANGE_STATUS_INVALID_RANGE.
 */
int vrange_forget(void *addr, size_t length);

/*
 Marks pages as volatile: they may vanish from now on. The length is rounded down to whole pages.

 Of adopted memory each 4 MiB cost two atomic operations and a few stores, whatever is in memory. Other memory is offered to the
 kernel at once, which costs a look at each page and what madvise(MADV_FREE) costs. Nobody uses the pages until vrange_unmark has
 returned. Never allocates, but for the first call on adopted memory (see vrange_prepare).

 Fails with VRANGE_STATUS_INVALID_RANGE; for memory that is not adopted also with VRANGE_STATUS_NOT_MARKABLE, VRANGE_STATUS_NOT_MAPPED,
 VRANGE_STATUS_OUT_OF_MEMORY, VRANGE_STATUS_REFUSED.
 */
int vrange_mark(void *addr,
                size_t length);

/*
 Ends the marks on pages. Nothing of them is lost afterwards, however they are written to. Pages that are not marked are passed
 over. "purged" may be NULL; it is set to 1 if contents were lost, else to 0.

 Fails with VRANGE_STATUS_INVALID_RANGE, VRANGE_STATUS_NOT_WRITABLE.
 */
int vrange_unmark(void *addr,
                  size_t length,
                  int *purged);

/*
 As vrange_unmark, and says of each page whether it was lost, in the manner of mincore(2): "lost" has a byte for each page of the
 range, which becomes 1 if the page had contents and reads as zeros now, else 0.

 Fails as vrange_unmark, and with VRANGE_STATUS_NULL_POINTER.
 */
int vrange_unmark_pages(void *addr,
                        size_t length,
                        unsigned char *lost);

/*
 Offers pages to the kernel at once and notes nothing: madvise(MADV_FREE), with the manners of the other calls. No unmark is needed,
 and none can tell what was lost: a store to a page ends the offer of that page. Of memory that the program opened to KSM, close it
 first (MADV_UNMERGEABLE).

 Fails with VRANGE_STATUS_INVALID_RANGE, VRANGE_STATUS_NOT_MARKABLE, VRANGE_STATUS_NOT_MAPPED.
 */
int vrange_mark_now(void *addr,
                    size_t length);

/*
 Ends what vrange_mark_now began, on the pages that are still there. Needed only before a device writes to them past the page table
 (io_uring's registered buffers); a store does the same for its page.

 Fails with VRANGE_STATUS_INVALID_RANGE, VRANGE_STATUS_NOT_WRITABLE, VRANGE_STATUS_NOT_MAPPED.
 */
int vrange_unmark_now(void *addr,
                      size_t length);

/*
 Drops marked pages now. They stay marked, and the unmark tells what was lost.

 Fails with VRANGE_STATUS_INVALID_RANGE, VRANGE_STATUS_UNSUPPORTED.
 */
int vrange_purge(void *addr, size_t length);

/*
 Says of each page how it is marked: "marks" has a byte for each page of the range, which becomes VRANGE_MARK_... No system call; says
 nothing of what the kernel has taken.

 Fails with VRANGE_STATUS_INVALID_RANGE, VRANGE_STATUS_NULL_POINTER.
 */
int vrange_query(void *addr,
                 size_t length,
                 unsigned char *marks);

/*
 Hands the coldest marked pages of adopted memory to the kernel until "bytes" bytes in memory are offered, or nothing is left. Returns
 how many. Their contents stay until memory is short. Allocates.
 */
uint64_t vrange_offer(uint64_t bytes);

/*
 Counts what is marked in the process. "stats_size" is sizeof(vrange_mark_stats). No system call.

 Fails with VRANGE_STATUS_NULL_POINTER.
 */
int vrange_marks_get_stats(struct vrange_mark_stats *stats, size_t stats_size);

/*
 One turn: reads how short memory is, on the machine and in every memory cgroup from this process's to the root, and offers and
 releases what that asks for. Some ten microseconds when there is nothing to do.

 "step" may be NULL, with a size of 0; else "step_size" is sizeof(vrange_step). Fails with VRANGE_STATUS_NULL_POINTER.
 */
int vrange_reclaimer_step(struct vrange_reclaimer *reclaimer,
                          struct vrange_step *step,
                          size_t step_size);

/*
 Lets go of a reclaimer: nothing is offered or released for its heap any more, but by request. NULL is no reclaimer, and fine.
 */
void vrange_reclaimer_free(struct vrange_reclaimer *reclaimer);

/*
 What a status means and what to do about it, in a sentence. Never null, and never to be freed.
 */
const char *vrange_strerror(int status);

/*
 The version of the library in use, such as "0.1.0". Never null, and never to be freed.
 */
const char *vrange_version(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* VRANGE_H */
