/*
 * received - received messages in memory of their own.
 */
#ifndef FILAD_CLIENT_RECEIVED_H
#define FILAD_CLIENT_RECEIVED_H

#include "core/list.h"
#include "fibp/framed_client.h"
#include "fila.h"

/* A public delivery, chained while it waits to be received. */
struct received {
    struct fila_delivery message; /* first: what fila_delivery_free() gets */
    struct list list;
};

/* A copy in one block of memory; NULL without memory. */
struct received *received_create(const struct framed_client_delivery *from) FILA_CHECKED;

#endif
