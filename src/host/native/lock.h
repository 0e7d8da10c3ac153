/*
 * Waiting for a file lock without stopping the event loop: flock(2) in a thread of its own. Not one of libuv's pool, for
 * which a process that exits waits; and a lock may be long in coming. Part of vmshim.c's one compilation.
 */
#pragma once
#include "values.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>

typedef struct lock_wait {
  int fd;
  int outcome;
} lock_wait;

/* Closing `fd`, a duplicate, lets the lock go at once if whoever asked has closed his own meanwhile. */
static void *wait_for_lock(void *data) {
  lock_wait one = *(lock_wait *)data;
  free(data);
  int result;
  do result = flock(one.fd, LOCK_EX);
  while (result < 0 && errno == EINTR);
  unsigned char error = result < 0 ? (unsigned char)errno : 0;
  close(one.fd);
  ssize_t written = write(one.outcome, &error, 1);
  (void)written;
  close(one.outcome);
  return NULL;
}

/* 0, or an errno. */
static int start_lock_wait(int fd, int outcome) {
  lock_wait *one = malloc(sizeof *one);
  if (one == NULL) return ENOMEM;
  *one = (lock_wait){.fd = fd, .outcome = outcome};
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, 64 << 10);
  /* Signals are for the threads that expect them; SIGPIPE is nobody's. */
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  pthread_t thread;
  int error = pthread_create(&thread, &attributes, wait_for_lock, one);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  if (error != 0) free(one);
  return error;
}

static napi_value flock_wait(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  int fd, ends[2];
  if (!get_args(env, info, 1, argv) || !get_fd(env, argv[0], "fd", &fd)) return NULL;
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) return throw_errno(env, errno, "pipe2");
  int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  int error = own < 0 ? errno : start_lock_wait(own, ends[1]);
  if (error == 0) return js_int(env, ends[0]);
  close(ends[0]);
  close(ends[1]);
  if (own < 0) return throw_errno(env, error, "fcntl");
  close(own);
  return throw_errno(env, error, "pthread_create");
}
