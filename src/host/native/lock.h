/*
 * Waiting for a file lock without stopping the event loop: flock(2) in a thread of libuv's pool. Part of vmshim.c's one
 * compilation.
 */
#pragma once
#include "values.h"

#include <stdlib.h>
#include <sys/file.h>

typedef struct lock_wait {
  int fd;
  int error;
  napi_async_work work;
  napi_deferred deferred;
} lock_wait;

static void wait_for_lock(napi_env env, void *data) {
  (void)env;
  lock_wait *one = data;
  int result;
  do result = flock(one->fd, LOCK_EX);
  while (result < 0 && errno == EINTR);
  one->error = result < 0 ? errno : 0;
}

static void lock_waited(napi_env env, napi_status status, void *data) {
  lock_wait *one = data;
  napi_value outcome;
  int error = status == napi_cancelled ? ECANCELED : one->error;
  if (error == 0) {
    if (napi_get_undefined(env, &outcome) == napi_ok) napi_resolve_deferred(env, one->deferred, outcome);
  } else {
    throw_errno(env, error, "flock");
    if (napi_get_and_clear_last_exception(env, &outcome) == napi_ok) {
      napi_reject_deferred(env, one->deferred, outcome);
    }
  }
  napi_delete_async_work(env, one->work);
  free(one);
}

/* The descriptor must stay open until the promise is settled: the thread knows it by its number. */
static napi_value flock_wait(napi_env env, napi_callback_info info) {
  napi_value argv[1], name, promise;
  int fd;
  if (!get_args(env, info, 1, argv) || !get_fd(env, argv[0], "fd", &fd)) return NULL;
  lock_wait *one = calloc(1, sizeof *one);
  if (one == NULL) return throw_errno(env, ENOMEM, "malloc");
  one->fd = fd;
  if (napi_create_string_utf8(env, "vmshim:flock", NAPI_AUTO_LENGTH, &name) == napi_ok &&
      napi_create_async_work(env, NULL, name, wait_for_lock, lock_waited, one, &one->work) == napi_ok) {
    if (napi_create_promise(env, &one->deferred, &promise) == napi_ok &&
        napi_queue_async_work(env, one->work) == napi_ok) {
      return promise;
    }
    napi_delete_async_work(env, one->work);
  }
  free(one);
  return NULL;
}
