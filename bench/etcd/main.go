// Measures etcd through its own client: closed loop, so many connections with so many requests outstanding on each, as `rookeeper bench` does.
//
//	go run . -endpoint 127.0.0.1:2379 -operation get -connections 10 -pipeline 100
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"math/rand"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

var (
	endpoint    = flag.String("endpoint", "127.0.0.1:2379", "HOST:PORT of etcd")
	operation   = flag.String("operation", "get", "get, a linearizable read; get-serializable, as ZooKeeper's reads; set")
	connections = flag.Int("connections", 1, "clients, each with its own connection")
	pipeline    = flag.Int("pipeline", 1, "requests outstanding on each")
	keys        = flag.Int("keys", 1000, "keys, made before")
	warmUp      = flag.Duration("warmup", time.Second, "load that is not counted")
	length      = flag.Duration("seconds", 2*time.Second, "load that is counted")
)

var value = strings.Repeat("v", 100)

func ask(client *clientv3.Client, operation, key string) error {
	ctx := context.Background()
	var err error
	switch operation {
	case "set":
		_, err = client.Put(ctx, key, value)
	case "get":
		_, err = client.Get(ctx, key)
	case "get-serializable":
		_, err = client.Get(ctx, key, clientv3.WithSerializable())
	default:
		err = fmt.Errorf("no such operation: %s", operation)
	}
	return err
}

func main() {
	flag.Parse()
	clients := make([]*clientv3.Client, *connections)
	for at := range clients {
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{*endpoint}, DialTimeout: 10 * time.Second})
		if err != nil {
			log.Fatal(err)
		}
		clients[at] = client
	}
	for key := range *keys {
		if err := ask(clients[0], "set", "bench/"+strconv.Itoa(key)); err != nil {
			log.Fatal(err)
		}
	}
	begin := time.Now().Add(*warmUp)
	end := begin.Add(*length)
	var mutex sync.Mutex
	var latencies []time.Duration
	var group sync.WaitGroup
	for at := range *connections * *pipeline {
		group.Add(1)
		go func() {
			defer group.Done()
			client, random := clients[at%*connections], rand.New(rand.NewSource(int64(at)))
			var own []time.Duration
			for {
				sent := time.Now()
				if sent.After(end) {
					break
				}
				if err := ask(client, *operation, "bench/"+strconv.Itoa(random.Intn(*keys))); err != nil {
					log.Fatal(err)
				}
				if sent.After(begin) {
					own = append(own, time.Since(sent))
				}
			}
			mutex.Lock()
			latencies = append(latencies, own...)
			mutex.Unlock()
		}()
	}
	group.Wait()
	sort.Slice(latencies, func(one, other int) bool { return latencies[one] < latencies[other] })
	if len(latencies) == 0 {
		log.Fatal("nothing was answered in time")
	}
	at := func(part float64) float64 {
		return float64(latencies[int(part*float64(len(latencies)-1))].Microseconds()) / 1000
	}
	fmt.Printf("%s %d x %d: %.0f ops/s, p50 %.2f ms, p99 %.2f ms\n", *operation, *connections, *pipeline,
		float64(len(latencies))/length.Seconds(), at(0.5), at(0.99))
}
