// A module whose commands are as odd as commands may be: keys that only the module itself can name, and one that waits.
// It needs no header: a module gets every function by its name.
typedef int (*Command)(void *ctx, void **argv, int argc);

static int (*create_command)(void *ctx, const char *name, Command, const char *flags, int first, int last, int step);
static int (*set_attributes)(void *ctx, const char *name, int version, int api);
static int (*reply_with_number)(void *ctx, long long number);
static int (*reply_with_null)(void *ctx);
static int (*is_keys_request)(void *ctx);
static void (*key_at)(void *ctx, int position);
static void *(*command_of)(void *ctx, const char *name);
static int (*set_info)(void *command, const void *info);
static void *(*block)(void *ctx, Command reply, Command timeout, void (*freed)(void *, void *), long long milliseconds);

// What a module may say of a command; the sizes are those of structures that are not used here.
static const struct version {
    int version;
    unsigned long history, keys, arguments;
} version = {1, 16, 64, 64};
static const struct info {
    const struct version *version;
    const char *summary, *complexity, *since;
    const void *history;
    const char *tips;
    int arity;
    const void *keys, *arguments;
} info = {.version = &version, .tips = "of_its_own request_policy:all_shards response_policy:agg_max"};

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
    get("RedisModule_GetCommand", &command_of);
    get("RedisModule_SetCommandInfo", &set_info);
    set_attributes(ctx, "odd", 1, 1);
    return create_command(ctx, "odd.last", last, "write getkeys-api", 0, 0, 0)
        || create_command(ctx, "odd.waits", waits, "readonly", 1, 1, 1)
        || set_info(command_of(ctx, "odd.last"), &info);
}
