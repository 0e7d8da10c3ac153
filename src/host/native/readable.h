/*
 * Watching a descriptor in Node's own event loop. Part of vmshim.c's one compilation.
 *
 * Node watches only the kinds of descriptors it has a class for, and a packet socket is none of them. libuv can watch
 * anything that epoll can, and N-API hands out its loop: no thread, no queue of ours, no wake-up without an event.
 * These are the parts of libuv's interface that are needed, which has been stable since version 1.19 (2018). They are
 * weak, so a Node without them still loads this module and only a watch fails.
 */
#pragma once
#include "values.h"

#include <stdlib.h>

enum { UV_POLL = 8, UV_READABLE = 1 };
typedef struct uv_handle uv_handle;

#define WEAK __attribute__((weak))
WEAK extern int uv_poll_init(struct uv_loop_s *loop, uv_handle *handle, int fd);
WEAK extern int uv_poll_start(uv_handle *handle, int events, void (*ready)(uv_handle *, int status, int events));
WEAK extern void uv_close(uv_handle *handle, void (*closed)(uv_handle *));
WEAK extern void uv_unref(uv_handle *handle);
WEAK extern size_t uv_handle_size(int type);
WEAK extern const char *uv_handle_type_name(int type);
WEAK extern void *uv_handle_get_data(const uv_handle *handle);
WEAK extern void uv_handle_set_data(uv_handle *handle, void *data);

/* One watched descriptor; in the list of its environment until `unwatch`, in memory until libuv has let go of it. */
typedef struct watch {
  struct watch *next;
  struct watches *list;
  uv_handle *handle;
  int fd;
  napi_env env;
  napi_ref on_ready;
  napi_async_context context;
  napi_async_cleanup_hook_handle cleanup;
} watch;

typedef struct watches {
  watch *first;
} watches;

static void free_watches(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  free(data);
}

static bool keep_watches(napi_env env) {
  watches *list = calloc(1, sizeof *list);
  if (list != NULL && napi_set_instance_data(env, list, free_watches, NULL) == napi_ok) return true;
  free(list);
  return false;
}

static watch **find_watch(napi_env env, int fd) {
  void *list;
  if (napi_get_instance_data(env, &list) != napi_ok || list == NULL) return NULL;
  watch **place = &((watches *)list)->first;
  while (*place != NULL && (*place)->fd != fd) place = &(*place)->next;
  return place;
}

static void watch_closed(uv_handle *handle) {
  watch *one = uv_handle_get_data(handle);
  if (one->cleanup != NULL) napi_remove_async_cleanup_hook(one->cleanup);
  free(handle);
  free(one);
}

static void end_watch(watch *one) {
  for (watch **place = &one->list->first; *place != NULL; place = &(*place)->next) {
    if (*place != one) continue;
    *place = one->next;
    break;
  }
  napi_delete_reference(one->env, one->on_ready);
  napi_async_destroy(one->env, one->context);
  uv_close(one->handle, watch_closed);
}

/* The environment ends, as that of a worker does, while something is still watched. */
static void watch_orphaned(napi_async_cleanup_hook_handle cleanup, void *data) {
  watch *one = data;
  one->cleanup = cleanup;
  for (watch *other = one->list->first; other != NULL; other = other->next) {
    if (other == one) {
      end_watch(one);
      return;
    }
  }
}

/* `one` may be gone from the list when the callback returns, so nothing of it is used after. */
static void watch_ready(uv_handle *handle, int status, int events) {
  (void)events;
  watch *one = uv_handle_get_data(handle);
  napi_env env = one->env;
  napi_handle_scope scope;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  napi_value receiver, on_ready, failed, result, error;
  if (napi_get_global(env, &receiver) == napi_ok && napi_get_reference_value(env, one->on_ready, &on_ready) == napi_ok &&
      napi_get_boolean(env, status < 0, &failed) == napi_ok &&
      napi_make_callback(env, one->context, receiver, on_ready, 1, &failed, &result) == napi_pending_exception &&
      napi_get_and_clear_last_exception(env, &error) == napi_ok) {
    napi_fatal_exception(env, error);
  }
  napi_close_handle_scope(env, scope);
}

static napi_value watch_readable(napi_env env, napi_callback_info info) {
  napi_value argv[2], name;
  struct uv_loop_s *loop;
  int fd;
  if (!get_args(env, info, 2, argv) || !get_fd(env, argv[0], "fd", &fd) || !get_function(env, argv[1], "onReady")) {
    return NULL;
  }
  if (uv_poll_init == NULL || uv_handle_type_name == NULL || strcmp(uv_handle_type_name(UV_POLL), "poll") != 0) {
    return throw_errno(env, ENOSYS, "uv_poll_init");
  }
  watch **place = find_watch(env, fd);
  if (place == NULL || *place != NULL) return throw_errno(env, EEXIST, "uv_poll_init");

  watch *one = calloc(1, sizeof *one);
  uv_handle *handle = calloc(1, uv_handle_size(UV_POLL));
  int error = one == NULL || handle == NULL || napi_get_uv_event_loop(env, &loop) != napi_ok ? -ENOMEM
                                                                                            : uv_poll_init(loop, handle, fd);
  if (error < 0) {
    free(one);
    free(handle);
    return throw_errno(env, -error, "uv_poll_init");
  }
  uv_handle_set_data(handle, one);
  uv_unref(handle);
  *one = (watch){.handle = handle, .fd = fd, .env = env};
  napi_get_instance_data(env, (void **)&one->list);
  bool made = napi_create_reference(env, argv[1], 1, &one->on_ready) == napi_ok &&
              napi_create_string_utf8(env, "vmshim.readable", NAPI_AUTO_LENGTH, &name) == napi_ok &&
              napi_async_init(env, NULL, name, &one->context) == napi_ok &&
              napi_add_async_cleanup_hook(env, watch_orphaned, one, &one->cleanup) == napi_ok;
  *place = one;
  error = made ? uv_poll_start(handle, UV_READABLE, watch_ready) : -ENOMEM;
  if (error == 0) return NULL;
  end_watch(one);
  return throw_errno(env, -error, "uv_poll_start");
}

static napi_value unwatch(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  int fd;
  if (!get_args(env, info, 1, argv) || !get_fd(env, argv[0], "fd", &fd)) return NULL;
  watch **place = find_watch(env, fd);
  if (place == NULL || *place == NULL) return throw_errno(env, ENOENT, "unwatch");
  end_watch(*place);
  return NULL;
}
