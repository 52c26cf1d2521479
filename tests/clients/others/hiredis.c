/* The ordinary jobs of hiredis. */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(int holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "failed: %s\n", what);
        exit(1);
    }
}

static redisReply *ask(redisContext *c, const char *command) {
    redisReply *reply = redisCommand(c, command);
    check(reply != NULL, command);
    return reply;
}

int main(void) {
    int port = atoi(getenv("PORT"));
    redisContext *c = redisConnect("127.0.0.1", port);
    check(c && !c->err, "connect");
    check(strcmp(ask(c, "PING")->str, "PONG") == 0, "ping");
    ask(c, "DEL c:n c:queue");
    check(strcmp(ask(c, "HGET item:apple:def name")->str, "Apple") == 0, "a definition");
    for (int i = 0; i < 1000; i++) redisAppendCommand(c, "INCR c:n");
    for (int i = 1; i <= 1000; i++) {
        redisReply *reply;
        check(redisGetReply(c, (void **)&reply) == REDIS_OK && reply->integer == i, "pipeline");
        freeReplyObject(reply);
    }
    char binary[] = "a\r\nb\0c";
    redisReply *reply = redisCommand(c, "SET c:binary %b", binary, sizeof binary);
    check(reply->type == REDIS_REPLY_STATUS, "set");
    reply = ask(c, "GET c:binary");
    check(reply->len == sizeof binary && memcmp(reply->str, binary, sizeof binary) == 0, "binary");
    ask(c, "MULTI");
    ask(c, "INCR c:n");
    ask(c, "HGET item:apple:def name");
    reply = ask(c, "EXEC");
    check(reply->elements == 2 && reply->element[0]->integer == 1001 && strcmp(reply->element[1]->str, "Apple") == 0, "multi");
    reply = ask(c, "NOSUCH");
    check(reply->type == REDIS_REPLY_ERROR, "error");

    redisContext *subscriber = redisConnect("127.0.0.1", port);
    ask(subscriber, "SUBSCRIBE c:news");
    check(ask(c, "PUBLISH c:news hello")->integer == 1, "publish");
    check(redisGetReply(subscriber, (void **)&reply) == REDIS_OK && strcmp(reply->element[2]->str, "hello") == 0, "message");
    redisContext *waiting = redisConnect("127.0.0.1", port);
    redisAppendCommand(waiting, "BLPOP c:queue 0");
    int done = 0;
    while (!done) check(redisBufferWrite(waiting, &done) == REDIS_OK, "write");
    ask(c, "RPUSH c:queue job");
    check(redisGetReply(waiting, (void **)&reply) == REDIS_OK && strcmp(reply->element[1]->str, "job") == 0, "blpop");
    redisFree(waiting);
    redisFree(subscriber);
    redisFree(c);
    return 0;
}
