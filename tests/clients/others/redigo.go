// The ordinary jobs of redigo.
package main

import (
	"fmt"
	"os"

	"github.com/gomodule/redigo/redis"
)

func check(holds bool, what string, details ...interface{}) {
	if !holds {
		fmt.Fprintln(os.Stderr, "failed:", what, details)
		os.Exit(1)
	}
}

func dial() redis.Conn {
	connection, err := redis.Dial("tcp", "127.0.0.1:"+os.Getenv("PORT"), redis.DialClientName("go"), redis.DialDatabase(0))
	check(err == nil, "dial", err)
	return connection
}

func main() {
	c := dial()
	pong, err := redis.String(c.Do("PING"))
	check(pong == "PONG", "ping", err)
	c.Do("DEL", "go:n", "go:queue")
	apple, err := redis.StringMap(c.Do("HGETALL", "item:apple:def"))
	check(apple["name"] == "Apple", "a definition", err)
	for i := 0; i < 100; i++ {
		c.Send("INCR", "go:n")
	}
	c.Flush()
	for i := 1; i <= 100; i++ {
		n, err := redis.Int(c.Receive())
		check(n == i, "pipeline", err)
	}
	c.Send("MULTI")
	c.Send("INCR", "go:n")
	c.Send("HGET", "item:apple:def", "name")
	multi, err := redis.Values(c.Do("EXEC"))
	check(err == nil && len(multi) == 2 && multi[0].(int64) == 101 && string(multi[1].([]byte)) == "Apple", "multi", err)
	c.Do("WATCH", "go:n")
	dial().Do("INCR", "go:n")
	c.Send("MULTI")
	c.Send("INCR", "go:n")
	watched, err := c.Do("EXEC")
	check(watched == nil && err == nil, "watch", err)
	script := redis.NewScript(1, "return redis.call('incrby', KEYS[1], ARGV[1])")
	n, err := redis.Int(script.Do(c, "go:n", 10))
	check(n == 112, "script", n, err)

	pool := &redis.Pool{MaxActive: 20, Wait: true, Dial: func() (redis.Conn, error) { return dial(), nil }}
	done := make(chan error)
	for i := 0; i < 100; i++ {
		go func(i int) {
			connection := pool.Get()
			defer connection.Close()
			_, err := connection.Do("SET", fmt.Sprint("go:", i), i)
			done <- err
		}(i)
	}
	for i := 0; i < 100; i++ {
		check(<-done == nil, "pool")
	}

	subscriber := redis.PubSubConn{Conn: dial()}
	subscriber.Subscribe("go:news")
	subscriber.PSubscribe("go:n*")
	for heard := 0; heard < 2; {
		switch message := subscriber.Receive().(type) {
		case redis.Subscription:
			if message.Count == 2 {
				c.Do("PUBLISH", "go:news", "hello")
			}
		case redis.Message:
			check(string(message.Data) == "hello", "message")
			heard++
		case error:
			check(false, "subscribe", message)
		}
	}
	waiting := make(chan string)
	go func() {
		popped, _ := redis.Strings(dial().Do("BLPOP", "go:queue", 10))
		waiting <- popped[1]
	}()
	c.Do("RPUSH", "go:queue", "job")
	check(<-waiting == "job", "blpop")
}
