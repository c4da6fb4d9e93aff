import java.io.BufferedReader;
import java.io.Closeable;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.queue.DistributedDelayQueue;
import org.apache.curator.framework.recipes.queue.DistributedPriorityQueue;
import org.apache.curator.framework.recipes.queue.DistributedQueue;
import org.apache.curator.framework.recipes.queue.QueueBuilder;
import org.apache.curator.framework.recipes.queue.QueueConsumer;
import org.apache.curator.framework.recipes.queue.QueueSerializer;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.RetryForever;

/**
 * Queues, barriers and counters of Curator, told a line at a time, and answering each with a line: the counterpart of
 * tests/clients/kazoo/coordinator.py.
 */
public class Coordinator {
    private static final Map<String, LinkedBlockingQueue<String>> RECEIVED = new HashMap<>();
    private static final Map<String, Closeable> QUEUES = new HashMap<>();
    private static final Map<String, DistributedDoubleBarrier> BARRIERS = new HashMap<>();
    private static CuratorFramework client;

    private static final QueueSerializer<String> TEXT = new QueueSerializer<>() {
        @Override
        public byte[] serialize(String item) {
            return item.getBytes(StandardCharsets.UTF_8);
        }

        @Override
        public String deserialize(byte[] bytes) {
            return new String(bytes, StandardCharsets.UTF_8);
        }
    };

    public static void main(String[] arguments) throws Exception {
        client = CuratorFrameworkFactory.builder()
            .connectString(arguments[0]).sessionTimeoutMs(20_000).retryPolicy(new RetryForever(100)).build();
        client.start();
        client.blockUntilConnected();
        var input = new BufferedReader(new InputStreamReader(System.in));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            System.out.println(answer(line.split(" ")));
            System.out.flush();
        }
        System.exit(0);
    }

    private static String answer(String[] words) throws Exception {
        switch (words[0]) {
            // consume|hold KIND QUEUE LOCKS: takes items and is done with each at once, or never with the first.
            case "consume":
            case "hold":
                QUEUES.put(words[2], start(words[1], consumer(words[2], words[0].equals("hold")), words[2], words[3]));
                return "started";
            case "received":
                List<String> items = new ArrayList<>();
                items.add(RECEIVED.get(words[1]).poll(60, TimeUnit.SECONDS));
                RECEIVED.get(words[1]).drainTo(items);
                return String.join(" ", items);
            case "stop":
                QUEUES.remove(words[1]).close();
                return "stopped";
            // put KIND QUEUE LOCKS VALUE [PRIORITY, or the time at which it is due]
            case "put":
                put(words);
                return "put";
            case "work-time":
                return workTime(words[1], words[2], Integer.parseInt(words[3]));
            case "set":
                new DistributedBarrier(client, words[1]).setBarrier();
                return "set";
            case "remove":
                new DistributedBarrier(client, words[1]).removeBarrier();
                return "removed";
            case "wait":
                return new DistributedBarrier(client, words[1]).waitOnBarrier(60, TimeUnit.SECONDS) ? "open" : "closed";
            case "enter":
                DistributedDoubleBarrier barrier = new DistributedDoubleBarrier(client, words[1], Integer.parseInt(words[2]));
                BARRIERS.put(words[1], barrier);
                return barrier.enter(60, TimeUnit.SECONDS) ? "entered" : "failed";
            case "leave":
                return BARRIERS.remove(words[1]).leave(60, TimeUnit.SECONDS) ? "left" : "failed";
            case "add":
                return add(words[1], words[2], Integer.parseInt(words[3]), Integer.parseInt(words[4]));
            case "value":
                return value(words[1], words[2]);
            default:
                return "what is " + words[0] + "?";
        }
    }

    private static QueueConsumer<String> consumer(String queue, boolean holds) {
        var received = RECEIVED.computeIfAbsent(queue, path -> new LinkedBlockingQueue<>());
        return new QueueConsumer<>() {
            @Override
            public void consumeMessage(String item) throws Exception {
                received.add(item);
                if (holds) {
                    new CountDownLatch(1).await();
                }
            }

            @Override
            public void stateChanged(CuratorFramework framework, ConnectionState state) {
            }
        };
    }

    private static Closeable start(String kind, QueueConsumer<String> consumer, String path, String locks) throws Exception {
        var builder = QueueBuilder.builder(client, consumer, TEXT, path).lockPath(locks);
        switch (kind) {
            case "priority":
                DistributedPriorityQueue<String> byPriority = builder.buildPriorityQueue(0);
                byPriority.start();
                return byPriority;
            case "delay":
                DistributedDelayQueue<String> byTime = builder.buildDelayQueue();
                byTime.start();
                return byTime;
            default:
                DistributedQueue<String> plain = builder.buildQueue();
                plain.start();
                return plain;
        }
    }

    @SuppressWarnings("unchecked")
    private static void put(String[] words) throws Exception {
        try (Closeable queue = start(words[1], null, words[2], words[3])) {
            switch (words[1]) {
                case "priority":
                    ((DistributedPriorityQueue<String>) queue).put(words[4], Integer.parseInt(words[5]));
                    ((DistributedPriorityQueue<String>) queue).flushPuts(60, TimeUnit.SECONDS);
                    break;
                case "delay":
                    ((DistributedDelayQueue<String>) queue).put(words[4], Long.parseLong(words[5]));
                    ((DistributedDelayQueue<String>) queue).flushPuts(60, TimeUnit.SECONDS);
                    break;
                default:
                    ((DistributedQueue<String>) queue).put(words[4]);
                    ((DistributedQueue<String>) queue).flushPuts(60, TimeUnit.SECONDS);
            }
        }
    }

    /** Microseconds for each of so many items: put, and then taken. */
    private static String workTime(String path, String locks, int count) throws Exception {
        DistributedQueue<String> producer =
            QueueBuilder.<String>builder(client, null, TEXT, path).lockPath(locks).putInBackground(false).buildQueue();
        producer.start();
        long start = System.nanoTime();
        for (int number = 0; number < count; number++) {
            producer.put(String.valueOf(number));
        }
        long middle = System.nanoTime();
        CountDownLatch left = new CountDownLatch(count);
        QueueConsumer<String> consumer = new QueueConsumer<>() {
            @Override
            public void consumeMessage(String item) {
                left.countDown();
            }

            @Override
            public void stateChanged(CuratorFramework framework, ConnectionState state) {
            }
        };
        try (Closeable taking = start("plain", consumer, path, locks)) {
            left.await();
        }
        long end = System.nanoTime();
        producer.close();
        return (middle - start) / 1000 / count + " " + (end - middle) / 1000 / count;
    }

    private static String add(String path, String kind, int amount, int times) throws Exception {
        if (kind.equals("long")) {
            DistributedAtomicLong number = new DistributedAtomicLong(client, path, new RetryForever(1));
            for (int round = 0; round < times; round++) {
                while (!number.add((long) amount).succeeded()) {
                    Thread.onSpinWait();
                }
            }
            return "added";
        }
        try (SharedCount count = new SharedCount(client, path, 0)) {
            count.start();
            for (int round = 0; round < times; round++) {
                while (!count.trySetCount(count.getVersionedValue(), count.getCount() + amount)) {
                    Thread.onSpinWait();
                }
            }
        }
        return "added";
    }

    private static String value(String path, String kind) throws Exception {
        if (kind.equals("long")) {
            return String.valueOf(new DistributedAtomicLong(client, path, new RetryForever(1)).get().postValue());
        }
        try (SharedCount count = new SharedCount(client, path, 0)) {
            count.start();
            return String.valueOf(count.getCount());
        }
    }
}
