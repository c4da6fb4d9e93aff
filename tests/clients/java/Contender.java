import java.io.BufferedReader;
import java.io.Closeable;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.leader.Participant;
import org.apache.curator.framework.recipes.locks.InterProcessLock;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.locks.Revoker;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.retry.RetryForever;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;

/**
 * A contender for locks and the like that does what it is told, a line at a time, and answers each with a line: the counterpart of
 * tests/clients/kazoo/contender.py.
 */
public class Contender {
    private static final Map<String, InterProcessLock> HELD = new HashMap<>();
    private static final Map<String, Lease> LEASES = new HashMap<>();
    private static final Map<String, Closeable> LATCHES = new HashMap<>();
    private static final Map<String, GroupMember> MEMBERS = new HashMap<>();
    private static CuratorFramework client;

    private static final Map<String, Line> LINES = new HashMap<>();
    private static String servers;

    public static void main(String[] arguments) throws Exception {
        servers = arguments[0];
        client = connect();
        var input = new BufferedReader(new InputStreamReader(System.in));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            System.out.println(answer(line.split(" ")));
            System.out.flush();
        }
        System.exit(0);
    }

    private static CuratorFramework connect() throws Exception {
        CuratorFramework connected = CuratorFrameworkFactory.builder()
            .connectString(servers).sessionTimeoutMs(20_000).retryPolicy(new RetryForever(100)).build();
        connected.start();
        connected.blockUntilConnected();
        return connected;
    }

    private static String answer(String[] words) throws Exception {
        switch (words[0]) {
            case "lock":
            case "read":
            case "write":
            case "revocable":
                InterProcessLock lock = lock(words[0], words[1]);
                if (words[0].equals("revocable")) {
                    ((InterProcessMutex) lock).makeRevocable(asked -> System.out.println("asked to give way"));
                }
                lock.acquire();
                HELD.put(words[1], lock);
                return "held";
            case "try":
                InterProcessLock tried = lock(words[1], words[2]);
                if (!tried.acquire(0, TimeUnit.SECONDS)) {
                    return "busy";
                }
                HELD.put(words[2], tried);
                return "held";
            case "unlock":
                HELD.remove(words[1]).release();
                return "released";
            case "lease":
                Lease lease = new InterProcessSemaphoreV2(client, words[1], Integer.parseInt(words[2])).acquire(0, TimeUnit.SECONDS);
                if (lease == null) {
                    return "busy";
                }
                LEASES.put(words[1], lease);
                return "held";
            case "return":
                LEASES.remove(words[1]).close();
                return "released";
            case "revoke":
                Revoker.attemptRevoke(client, words[1]);
                return "asked";
            case "elect":
                LeaderLatch latch = new LeaderLatch(client, words[1], words[2]);
                latch.start();
                latch.await();
                LATCHES.put(words[1], latch);
                return "leading";
            case "select":
                CountDownLatch leading = new CountDownLatch(1);
                CountDownLatch resigned = new CountDownLatch(1);
                LeaderSelector selector = new LeaderSelector(client, words[1], new LeaderSelectorListenerAdapter() {
                    @Override
                    public void takeLeadership(CuratorFramework leader) throws InterruptedException {
                        leading.countDown();
                        resigned.await();
                    }
                });
                selector.setId(words[2]);
                selector.start();
                leading.await();
                LATCHES.put(words[1], resigned::countDown);
                return "leading";
            case "resign":
                LATCHES.remove(words[1]).close();
                return "resigned";
            case "candidates":
                return new LeaderLatch(client, words[1]).getParticipants().stream().map(Participant::getId).sorted()
                    .collect(Collectors.joining(" "));
            case "join":
                GroupMember member = new GroupMember(client, words[1], words[2], words[2].getBytes(StandardCharsets.UTF_8));
                member.start();
                MEMBERS.put(words[1], member);
                while (client.checkExists().forPath(words[1] + "/" + words[2]) == null) {
                    Thread.sleep(10);
                }
                return "joined";
            case "members":
                return String.join(" ", MEMBERS.get(words[1]).getCurrentMembers().keySet());
            case "line":
                LINES.put(words[1], line(words[1], Integer.parseInt(words[2])));
                return "waiting";
            case "handover":
                return String.valueOf(LINES.remove(words[1]).handOver());
            case "failover":
                return String.valueOf(failOver(words[1]));
            case "rounds":
                return rounds(words[1], words[2], Integer.parseInt(words[3]));
            default:
                return "what is " + words[0] + "?";
        }
    }

    /** A holder, and those who wait behind it. */
    private record Line(InterProcessMutex first, List<Thread> threads) {
        /** Microseconds for each of them. */
        long handOver() throws Exception {
            // A mutex of Curator belongs to the thread that took it.
            long start = System.nanoTime();
            first.release();
            for (Thread thread : threads) {
                thread.join();
            }
            return (System.nanoTime() - start) / 1000 / threads.size();
        }
    }

    /** So many wait behind a holder. */
    private static Line line(String path, int waiters) throws Exception {
        InterProcessMutex first = new InterProcessMutex(client, path);
        first.acquire();
        List<Thread> threads = new ArrayList<>();
        for (int number = 0; number < waiters; number++) {
            Thread thread = new Thread(() -> {
                try {
                    InterProcessMutex lock = new InterProcessMutex(client, path);
                    lock.acquire();
                    lock.release();
                } catch (Exception error) {
                    throw new IllegalStateException(error);
                }
            });
            threads.add(thread);
            thread.start();
        }
        while (client.getChildren().forPath(path).size() <= waiters) {
            Thread.sleep(10);
        }
        // The last of them has still to look who is before it.
        Thread.sleep(500);
        return new Line(first, threads);
    }

    /** Microseconds from the end of a leader's session until the next leads. */
    private static long failOver(String path) throws Exception {
        CuratorFramework first = connect();
        CuratorFramework second = connect();
        LeaderLatch leader = new LeaderLatch(first, path, "first");
        leader.start();
        leader.await();
        LeaderLatch next = new LeaderLatch(second, path, "second");
        next.start();
        while (client.getChildren().forPath(path).size() < 2) {
            Thread.sleep(10);
        }
        Thread.sleep(200);
        long start = System.nanoTime();
        first.getZookeeperClient().getZooKeeper().close();
        next.await();
        long taken = (System.nanoTime() - start) / 1000;
        next.close();
        second.close();
        // Not closed before: its latch would ask with a session that is over.
        first.close();
        return taken;
    }

    private static InterProcessLock lock(String kind, String path) {
        switch (kind) {
            case "read":
                return new InterProcessReadWriteLock(client, path).readLock();
            case "write":
                return new InterProcessReadWriteLock(client, path).writeLock();
            default:
                return new InterProcessMutex(client, path);
        }
    }

    /** So many times inside, and alone each time or it is said. */
    private static String rounds(String kind, String path, int count) throws Exception {
        for (int round = 0; round < count; round++) {
            InterProcessLock lock = lock(kind, path);
            lock.acquire();
            try {
                client.create().withMode(CreateMode.EPHEMERAL).forPath("/inside");
                client.delete().forPath("/inside");
            } catch (KeeperException.NodeExistsException error) {
                return "two inside";
            } finally {
                lock.release();
            }
        }
        return "done";
    }
}
