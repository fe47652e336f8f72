/* Loaded into xdg-desktop-portal-wlr: names a format of graphics cards' buffers for each picture of the screen. 0.7.0 will not
 * start without one, though it then goes on in shared memory, and a compositor without a card (wlroots' pixman renderer) has
 * none to name. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <string.h>

#define XRGB8888 0x34325258

/* As zwlr_screencopy_frame_v1_listener, of wlr-screencopy-unstable-v1.xml. */
struct listener {
    void (*buffer)(void *, void *, uint32_t, uint32_t, uint32_t, uint32_t);
    void (*flags)(void *, void *, uint32_t);
    void (*ready)(void *, void *, uint32_t, uint32_t, uint32_t);
    void (*failed)(void *, void *);
    void (*damage)(void *, void *, uint32_t, uint32_t, uint32_t, uint32_t);
    void (*linux_dmabuf)(void *, void *, uint32_t, uint32_t, uint32_t);
    void (*buffer_done)(void *, void *);
};

static const struct listener *theirs;
static struct listener ours;

static void buffer(void *data, void *frame, uint32_t format, uint32_t width, uint32_t height, uint32_t stride) {
    theirs->buffer(data, frame, format, width, height, stride);
    theirs->linux_dmabuf(data, frame, XRGB8888, width, height);
}

int wl_proxy_add_listener(void *proxy, const void *listener, void *data) {
    int (*next)(void *, const void *, void *) = dlsym(RTLD_NEXT, "wl_proxy_add_listener");
    const char *(*class)(void *) = dlsym(RTLD_NEXT, "wl_proxy_get_class");
    if (strcmp(class(proxy), "zwlr_screencopy_frame_v1") == 0) {
        theirs = listener;
        ours = *theirs;
        ours.buffer = buffer;
        listener = &ours;
    }
    return next(proxy, listener, data);
}
