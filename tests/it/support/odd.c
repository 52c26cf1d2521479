// A module whose commands are as odd as commands may be: keys that only the module itself can name, and one that waits.
// It needs no header: a module gets every function by its name.
typedef int (*Command)(void *ctx, void **argv, int argc);

static int (*create_command)(void *ctx, const char *name, Command, const char *flags, int first, int last, int step);
static int (*set_attributes)(void *ctx, const char *name, int version, int api);
static int (*reply_with_number)(void *ctx, long long number);
static int (*reply_with_null)(void *ctx);
static int (*is_keys_request)(void *ctx);
static void (*key_at)(void *ctx, int position);
static void *(*block)(void *ctx, Command reply, Command timeout, void (*freed)(void *, void *), long long milliseconds);

// The key is the last argument.
static int last(void *ctx, void **argv, int argc) {
    (void)argv;
    if (is_keys_request(ctx)) {
        if (argc > 1) key_at(ctx, argc - 1);
        return 0;
    }
    return reply_with_number(ctx, argc);
}

static int too_late(void *ctx, void **argv, int argc) {
    (void)argv, (void)argc;
    return reply_with_null(ctx);
}

// It waits for a second, and says in no flag that it may.
static int waits(void *ctx, void **argv, int argc) {
    (void)argv, (void)argc;
    block(ctx, 0, too_late, 0, 1000);
    return 0;
}

int RedisModule_OnLoad(void *ctx, void **argv, int argc) {
    (void)argv, (void)argc;
    int (*get)(const char *name, void *function) = (int (*)(const char *, void *))((void **)ctx)[0];
    get("RedisModule_CreateCommand", &create_command);
    get("RedisModule_SetModuleAttribs", &set_attributes);
    get("RedisModule_ReplyWithLongLong", &reply_with_number);
    get("RedisModule_ReplyWithNull", &reply_with_null);
    get("RedisModule_IsKeysPositionRequest", &is_keys_request);
    get("RedisModule_KeyAtPos", &key_at);
    get("RedisModule_BlockClient", &block);
    set_attributes(ctx, "odd", 1, 1);
    return create_command(ctx, "odd.last", last, "write getkeys-api", 0, 0, 0)
        || create_command(ctx, "odd.waits", waits, "readonly", 1, 1, 1);
}
