/* Acks and nacks: what ends a lease. */
#include "client/bulk.h"
#include "client/error.h"
#include "fibp/framed_client.h"

static size_t ack_size(const void *items, size_t index)
{
    const struct fila_ack *item = (const struct fila_ack *)items + index;
    return 4 + item->queue.size + item->id.size;
}

static int ack_check(const void *items, size_t index, struct fila_error *error)
{
    const struct fila_ack *item = (const struct fila_ack *)items + index;
    return call_check_text(call_str(item->queue), "queue name", error) != 0 ||
                   call_check_text(call_str(item->id), "message id", error) != 0
               ? -1
               : 0;
}

static void ack_add(struct buf *frame, const void *items, size_t index)
{
    const struct fila_ack *item = (const struct fila_ack *)items + index;
    framed_client_ack_add(frame, call_str(item->queue), call_str(item->id));
}

static size_t nack_size(const void *items, size_t index)
{
    const struct fila_nack *item = (const struct fila_nack *)items + index;
    return 6 + item->queue.size + item->id.size + item->error.size;
}

static int nack_check(const void *items, size_t index, struct fila_error *error)
{
    const struct fila_nack *item = (const struct fila_nack *)items + index;
    return call_check_text(call_str(item->queue), "queue name", error) != 0 ||
                   call_check_text(call_str(item->id), "message id", error) != 0 ||
                   call_check_text(call_str(item->error), "error text", error) != 0
               ? -1
               : 0;
}

static void nack_add(struct buf *frame, const void *items, size_t index)
{
    const struct fila_nack *item = (const struct fila_nack *)items + index;
    framed_client_nack_add(frame, call_str(item->queue), call_str(item->id), call_str(item->error));
}

static bool settle_result(struct wire_reader *reader, void *output)
{
    enum fila_code *code = output;
    uint8_t answer;
    if (!framed_client_ack_result_next(reader, &answer))
        return false;
    *code = error_code_from_wire(answer);
    return true;
}

static void settle_fail(void *output, enum fila_code code)
{
    *(enum fila_code *)output = code;
}

static void settle_report(void (*callback)(void), void *context, const void *results, size_t count,
                          const struct fila_error *error)
{
    ((fila_ack_callback)callback)(context, results, count, error);
}

static const struct bulk_operation ack_operation = {
    .opcode = OPCODE_ACK,
    .noun = "ack",
    .result_size = sizeof(enum fila_code),
    .size = ack_size,
    .check = ack_check,
    .add = ack_add,
    .result = settle_result,
    .fail = settle_fail,
    .report = settle_report,
};

static const struct bulk_operation nack_operation = {
    .opcode = OPCODE_NACK,
    .noun = "nack",
    .result_size = sizeof(enum fila_code),
    .size = nack_size,
    .check = nack_check,
    .add = nack_add,
    .result = settle_result,
    .fail = settle_fail,
    .report = settle_report,
};

/* A code that came for a single item becomes the error of the call. */
static int settle_single(enum fila_code code, struct fila_error *error)
{
    return code == FILA_OK ? 0 : error_set(error, code, "%s", fila_code_text(code));
}

int fila_ack_many(struct fila *client, const struct fila_ack *items, size_t count,
                  enum fila_code *codes, struct fila_error *error)
{
    return bulk_run(client, &ack_operation, items, count, codes, error);
}

int fila_ack(struct fila *client, struct fila_slice queue, struct fila_slice id,
             struct fila_error *error)
{
    struct fila_ack item = {queue, id};
    enum fila_code code;
    if (fila_ack_many(client, &item, 1, &code, error) != 0)
        return -1;
    return settle_single(code, error);
}

int fila_nack_many(struct fila *client, const struct fila_nack *items, size_t count,
                   enum fila_code *codes, struct fila_error *error)
{
    return bulk_run(client, &nack_operation, items, count, codes, error);
}

int fila_nack(struct fila *client, struct fila_slice queue, struct fila_slice id,
              struct fila_slice reason, struct fila_error *error)
{
    struct fila_nack item = {queue, id, reason};
    enum fila_code code;
    if (fila_nack_many(client, &item, 1, &code, error) != 0)
        return -1;
    return settle_single(code, error);
}

int fila_ack_many_async(struct fila *client, const struct fila_ack *items, size_t count,
                        fila_ack_callback callback, void *context, struct fila_error *error)
{
    return bulk_submit(client, &ack_operation, items, count, (void (*)(void))callback, context,
                       error);
}

int fila_nack_many_async(struct fila *client, const struct fila_nack *items, size_t count,
                         fila_ack_callback callback, void *context, struct fila_error *error)
{
    return bulk_submit(client, &nack_operation, items, count, (void (*)(void))callback, context,
                       error);
}
