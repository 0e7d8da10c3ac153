/*
 * Between JavaScript values and C: errors thrown, arguments read, results made. Part of vmshim.c's one compilation.
 */
#pragma once
#include <node_api.h>

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- errors ---- */

static const struct {
  int number;
  const char *name;
} error_names[] = {
    {EPERM, "EPERM"},           {ENOENT, "ENOENT"},         {ESRCH, "ESRCH"},
    {EINTR, "EINTR"},           {EIO, "EIO"},               {ENXIO, "ENXIO"},
    {E2BIG, "E2BIG"},           {EBADF, "EBADF"},           {ECHILD, "ECHILD"},
    {EAGAIN, "EAGAIN"},         {ENOMEM, "ENOMEM"},         {EACCES, "EACCES"},
    {EFAULT, "EFAULT"},         {ENOTBLK, "ENOTBLK"},       {EBUSY, "EBUSY"},
    {EEXIST, "EEXIST"},         {EXDEV, "EXDEV"},           {ENODEV, "ENODEV"},
    {ENOTDIR, "ENOTDIR"},       {EISDIR, "EISDIR"},         {EINVAL, "EINVAL"},
    {ENFILE, "ENFILE"},         {EMFILE, "EMFILE"},         {ENOTTY, "ENOTTY"},
    {EFBIG, "EFBIG"},           {ENOSPC, "ENOSPC"},         {EROFS, "EROFS"},
    {EPIPE, "EPIPE"},           {ENAMETOOLONG, "ENAMETOOLONG"},
    {ENOSYS, "ENOSYS"},         {ENOTEMPTY, "ENOTEMPTY"},   {ELOOP, "ELOOP"},
    {EBADFD, "EBADFD"},         {ENOTSOCK, "ENOTSOCK"},     {EMSGSIZE, "EMSGSIZE"},
    {EOPNOTSUPP, "EOPNOTSUPP"}, {EAFNOSUPPORT, "EAFNOSUPPORT"},
    {EADDRINUSE, "EADDRINUSE"}, {EADDRNOTAVAIL, "EADDRNOTAVAIL"},
    {ECONNRESET, "ECONNRESET"}, {ENOBUFS, "ENOBUFS"},       {ENOTCONN, "ENOTCONN"},
    {ETIMEDOUT, "ETIMEDOUT"},   {ECONNREFUSED, "ECONNREFUSED"},
    {EHOSTUNREACH, "EHOSTUNREACH"}, {ENETUNREACH, "ENETUNREACH"},
};

static napi_value throw_errno(napi_env env, int number, const char *syscall_name) {
  char code[32];
  snprintf(code, sizeof code, "E%d", number);
  for (size_t i = 0; i < sizeof error_names / sizeof error_names[0]; i++) {
    if (error_names[i].number == number) snprintf(code, sizeof code, "%s", error_names[i].name);
  }
  char reason[96], message[192];
  snprintf(message, sizeof message, "%s: %s, %s", code, strerror_r(number, reason, sizeof reason), syscall_name);

  napi_value js_code, js_message, js_errno, js_syscall, error;
  if (napi_create_string_utf8(env, code, NAPI_AUTO_LENGTH, &js_code) == napi_ok &&
      napi_create_string_utf8(env, message, NAPI_AUTO_LENGTH, &js_message) == napi_ok &&
      napi_create_string_utf8(env, syscall_name, NAPI_AUTO_LENGTH, &js_syscall) == napi_ok &&
      napi_create_int32(env, -number, &js_errno) == napi_ok &&
      napi_create_error(env, js_code, js_message, &error) == napi_ok &&
      napi_set_named_property(env, error, "errno", js_errno) == napi_ok &&
      napi_set_named_property(env, error, "syscall", js_syscall) == napi_ok) {
    napi_throw(env, error);
  }
  return NULL;
}

/* Closes the half-made descriptor first: close() may overwrite errno. */
static napi_value close_and_throw(napi_env env, int fd, const char *syscall_name) {
  int number = errno;
  close(fd);
  return throw_errno(env, number, syscall_name);
}

static bool bad_type(napi_env env, const char *name, const char *wanted) {
  char message[160];
  snprintf(message, sizeof message, "%s must be %s", name, wanted);
  napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", message);
  return false;
}

static bool bad_range(napi_env env, const char *name, const char *wanted) {
  char message[160];
  snprintf(message, sizeof message, "%s must be %s", name, wanted);
  napi_throw_range_error(env, "ERR_OUT_OF_RANGE", message);
  return false;
}

/* ---- arguments: each reader throws and returns false when the value is not what it should be ---- */

/* Missing arguments arrive as undefined, which no reader accepts. */
static bool get_args(napi_env env, napi_callback_info info, size_t count, napi_value *argv) {
  return napi_get_cb_info(env, info, &count, argv, NULL, NULL) == napi_ok;
}

static bool get_integer(napi_env env, napi_value value, const char *name, double min, double max, int64_t *out) {
  double number;
  if (napi_get_value_double(env, value, &number) != napi_ok) return bad_type(env, name, "a number");
  if (!(number >= min && number <= max) || floor(number) != number) {
    char wanted[80];
    snprintf(wanted, sizeof wanted, "an integer from %.0f to %.0f", min, max);
    return bad_range(env, name, wanted);
  }
  *out = (int64_t)number;
  return true;
}

static bool get_int(napi_env env, napi_value value, const char *name, int min, int *out) {
  int64_t wide;
  if (!get_integer(env, value, name, min, INT_MAX, &wide)) return false;
  *out = (int)wide;
  return true;
}

static bool get_fd(napi_env env, napi_value value, const char *name, int *out) {
  return get_int(env, value, name, 0, out);
}

static bool get_bool(napi_env env, napi_value value, const char *name, bool *out) {
  return napi_get_value_bool(env, value, out) == napi_ok || bad_type(env, name, "a boolean");
}

/* Fills `out` with the text and its end; a text that is longer or has a NUL inside would be cut, so it is refused. */
static bool get_string(napi_env env, napi_value value, const char *name, char *out, size_t capacity) {
  size_t length;
  if (napi_get_value_string_utf8(env, value, NULL, 0, &length) != napi_ok) return bad_type(env, name, "a string");
  if (length >= capacity) {
    char wanted[48];
    snprintf(wanted, sizeof wanted, "at most %zu bytes long", capacity - 1);
    return bad_range(env, name, wanted);
  }
  if (napi_get_value_string_utf8(env, value, out, capacity, &length) != napi_ok) return false;
  return strlen(out) == length || bad_range(env, name, "without NUL bytes");
}

/* As get_string, with `*text` NULL for null. */
static bool get_text_or_null(napi_env env, napi_value value, const char *name, char *out, size_t capacity,
                             const char **text) {
  napi_valuetype type;
  if (napi_typeof(env, value, &type) != napi_ok) return false;
  *text = type == napi_null ? NULL : out;
  return type == napi_null || get_string(env, value, name, out, capacity);
}

/* Reads an array of integers from 0 to `max`, at most `capacity` of them. */
static bool get_integers(napi_env env, napi_value value, const char *name, uint32_t capacity, int max, int *out,
                         uint32_t *count) {
  bool is_array;
  if (napi_is_array(env, value, &is_array) != napi_ok || !is_array) return bad_type(env, name, "an array");
  if (napi_get_array_length(env, value, count) != napi_ok) return bad_type(env, name, "a plain array");
  if (*count > capacity) {
    char wanted[48];
    snprintf(wanted, sizeof wanted, "at most %u long", capacity);
    return bad_range(env, name, wanted);
  }
  for (uint32_t i = 0; i < *count; i++) {
    napi_value element;
    int64_t number;
    if (napi_get_element(env, value, i, &element) != napi_ok) return false;
    if (!get_integer(env, element, name, 0, max, &number)) return false;
    out[i] = (int)number;
  }
  return true;
}

static bool get_function(napi_env env, napi_value value, const char *name) {
  napi_valuetype type;
  return (napi_typeof(env, value, &type) == napi_ok && type == napi_function) || bad_type(env, name, "a function");
}

static bool get_bytes(napi_env env, napi_value value, const char *name, void **data, size_t *length) {
  napi_typedarray_type type;
  bool is_typed_array;
  if (napi_is_typedarray(env, value, &is_typed_array) != napi_ok || !is_typed_array ||
      napi_get_typedarray_info(env, value, &type, length, data, NULL, NULL) != napi_ok || type != napi_uint8_array) {
    return bad_type(env, name, "a Uint8Array");
  }
  return true;
}

/* ---- results ---- */

static napi_value js_int(napi_env env, int64_t number) {
  napi_value result;
  return napi_create_int64(env, number, &result) == napi_ok ? result : NULL;
}

static napi_value js_bool(napi_env env, bool truth) {
  napi_value result;
  return napi_get_boolean(env, truth, &result) == napi_ok ? result : NULL;
}

static napi_value js_integers(napi_env env, const int *numbers, uint32_t count) {
  napi_value array, element;
  if (napi_create_array_with_length(env, count, &array) != napi_ok) return NULL;
  for (uint32_t i = 0; i < count; i++) {
    if (napi_create_int32(env, numbers[i], &element) != napi_ok) return NULL;
    if (napi_set_element(env, array, i, element) != napi_ok) return NULL;
  }
  return array;
}

/* The result of a call that answers a descriptor or a count, or 0, or -1 with errno. */
static napi_value int_or_throw(napi_env env, long result, const char *syscall_name) {
  return result < 0 ? throw_errno(env, errno, syscall_name) : js_int(env, result);
}

static napi_value nothing_or_throw(napi_env env, long result, const char *syscall_name) {
  return result < 0 ? throw_errno(env, errno, syscall_name) : NULL;
}
