import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Objects;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentTtlNode;
import org.apache.curator.retry.RetryForever;

/** Apache Curator: locks, elections, caches, groups, nodes that are kept alive. */
public class CuratorRecipes {
    private static final long DEADLINE_SECONDS = 60;
    private static String address;

    public static void main(String[] arguments) throws Exception {
        address = arguments[0];
        try (CuratorFramework one = connect(); CuratorFramework two = connect()) {
            locks(one, two);
            elections(one, two);
            cache(one, two);
            groups(one, two);
            counters(one, two);
            transactions(one);
            ttlNode(one, two);
        }
        System.out.println("all was well");
        System.exit(0);
    }

    private static CuratorFramework connect() throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.builder()
            .connectString(address).sessionTimeoutMs(30_000).retryPolicy(new RetryForever(100)).build();
        client.start();
        check(client.blockUntilConnected((int) DEADLINE_SECONDS, TimeUnit.SECONDS), "no connection to " + address);
        return client;
    }

    private static void locks(CuratorFramework one, CuratorFramework two) throws Exception {
        AtomicInteger inside = new AtomicInteger();
        AtomicInteger entered = new AtomicInteger();
        List<Callable<Void>> workers = new ArrayList<>();
        for (int number = 0; number < 4; number++) {
            InterProcessMutex mutex = new InterProcessMutex(number % 2 == 0 ? one : two, "/curator/mutex");
            workers.add(() -> {
                for (int round = 0; round < 5; round++) {
                    check(mutex.acquire(DEADLINE_SECONDS, TimeUnit.SECONDS), "the mutex did not come");
                    equal(inside.incrementAndGet(), 1);
                    entered.incrementAndGet();
                    inside.decrementAndGet();
                    mutex.release();
                }
                return null;
            });
        }
        inThreads(workers);
        equal(entered.get(), 20);

        InterProcessReadWriteLock readers = new InterProcessReadWriteLock(one, "/curator/rw");
        InterProcessReadWriteLock others = new InterProcessReadWriteLock(two, "/curator/rw");
        readers.readLock().acquire();
        check(others.readLock().acquire(DEADLINE_SECONDS, TimeUnit.SECONDS), "readers share");
        others.readLock().release();
        check(!others.writeLock().acquire(100, TimeUnit.MILLISECONDS), "a writer got in beside a reader");
        readers.readLock().release();
        check(others.writeLock().acquire(DEADLINE_SECONDS, TimeUnit.SECONDS), "the writer's turn");
        others.writeLock().release();

        InterProcessSemaphoreV2 semaphore = new InterProcessSemaphoreV2(one, "/curator/semaphore", 2);
        var leases = semaphore.acquire(2, DEADLINE_SECONDS, TimeUnit.SECONDS);
        equal(leases.size(), 2);
        equal(new InterProcessSemaphoreV2(two, "/curator/semaphore", 2).acquire(100, TimeUnit.MILLISECONDS), null);
        semaphore.returnAll(leases);
    }

    private static void elections(CuratorFramework one, CuratorFramework two) throws Exception {
        LeaderLatch first = new LeaderLatch(one, "/curator/latch", "first");
        first.start();
        check(first.await(DEADLINE_SECONDS, TimeUnit.SECONDS), "the only candidate is not elected");
        LeaderLatch second = new LeaderLatch(two, "/curator/latch", "second");
        second.start();
        eventually(() -> second.getParticipants().size() == 2, "two candidates");
        equal(second.getLeader().getId(), "first");
        check(!second.hasLeadership(), "two leaders");
        first.close();
        check(second.await(DEADLINE_SECONDS, TimeUnit.SECONDS), "leadership does not pass on");
        second.close();

        CountDownLatch reigns = new CountDownLatch(4);
        AtomicInteger reigning = new AtomicInteger();
        List<LeaderSelector> selectors = new ArrayList<>();
        for (CuratorFramework client : List.of(one, two)) {
            LeaderSelector selector = new LeaderSelector(client, "/curator/selector", new LeaderSelectorListenerAdapter() {
                @Override
                public void takeLeadership(CuratorFramework leader) {
                    if (reigning.incrementAndGet() == 1) {
                        reigns.countDown();
                    }
                    reigning.decrementAndGet();
                }
            });
            selector.autoRequeue();
            selectors.add(selector);
            selector.start();
        }
        check(reigns.await(DEADLINE_SECONDS, TimeUnit.SECONDS), "leadership does not go around");
        selectors.forEach(LeaderSelector::close);
    }

    private static void cache(CuratorFramework one, CuratorFramework two) throws Exception {
        two.create().creatingParentsIfNeeded().forPath("/curator/cache/a", bytes("1"));
        var seen = new ConcurrentHashMap<String, String>();
        try (CuratorCache cache = CuratorCache.build(one, "/curator/cache")) {
            cache.listenable().addListener(CuratorCacheListener.builder()
                .forCreatesAndChanges((before, after) -> seen.put(after.getPath(), text(after.getData())))
                .forDeletes(before -> seen.remove(before.getPath()))
                .build());
            cache.start();
            eventually(() -> Objects.equals(seen.get("/curator/cache/a"), "1"), "what was there before");
            for (int number = 0; number < 50; number++) {
                two.create().creatingParentsIfNeeded().forPath("/curator/cache/b/n" + number, bytes("new"));
                two.setData().forPath("/curator/cache/a", bytes("v" + number));
            }
            two.delete().forPath("/curator/cache/b/n7");
            eventually(() -> Objects.equals(seen.get("/curator/cache/a"), "v49"), "the last value");
            eventually(() -> seen.containsKey("/curator/cache/b/n49") && !seen.containsKey("/curator/cache/b/n7"),
                "all creations and the deletion");
            eventually(() -> cache.size() == 1 + 1 + 1 + 49, "the size of the cache");
        }
    }

    private static void groups(CuratorFramework one, CuratorFramework two) throws Exception {
        try (GroupMember first = new GroupMember(one, "/curator/group", "first");
                GroupMember second = new GroupMember(two, "/curator/group", "second")) {
            first.start();
            second.start();
            eventually(() -> first.getCurrentMembers().keySet().equals(new TreeSet<>(List.of("first", "second"))), "both");
            second.close();
            eventually(() -> first.getCurrentMembers().keySet().equals(Collections.singleton("first")), "one left");
        }
    }

    private static void counters(CuratorFramework one, CuratorFramework two) throws Exception {
        List<Callable<Void>> workers = new ArrayList<>();
        for (CuratorFramework client : List.of(one, two)) {
            DistributedAtomicLong counter = new DistributedAtomicLong(client, "/curator/counter", new RetryForever(5));
            workers.add(() -> {
                for (int round = 0; round < 20; round++) {
                    check(counter.increment().succeeded(), "the counter gave up");
                }
                return null;
            });
        }
        inThreads(workers);
        equal(new DistributedAtomicLong(one, "/curator/counter", new RetryForever(5)).get().postValue(), 40L);

        List<Callable<Void>> crossing = new ArrayList<>();
        for (CuratorFramework client : List.of(one, two)) {
            DistributedDoubleBarrier barrier = new DistributedDoubleBarrier(client, "/curator/barrier", 2);
            crossing.add(() -> {
                check(barrier.enter(DEADLINE_SECONDS, TimeUnit.SECONDS), "the barrier does not open");
                check(barrier.leave(DEADLINE_SECONDS, TimeUnit.SECONDS), "the barrier does not let go");
                return null;
            });
        }
        inThreads(crossing);
    }

    private static void transactions(CuratorFramework client) throws Exception {
        List<CuratorTransactionResult> results = client.transaction().forOperations(
            client.transactionOp().create().forPath("/curator/t", bytes("1")),
            client.transactionOp().setData().withVersion(0).forPath("/curator/t", bytes("2")),
            client.transactionOp().check().withVersion(1).forPath("/curator/t"));
        equal(results.get(1).getResultStat().getVersion(), 1);
    }

    /** The node is touched often enough to outlive its TTL, and goes when nobody touches it any more. */
    private static void ttlNode(CuratorFramework one, CuratorFramework two) throws Exception {
        try (PersistentTtlNode node = new PersistentTtlNode(one, "/curator/ttl", 2_000, bytes("kept"))) {
            node.start();
            check(node.waitForInitialCreate(DEADLINE_SECONDS, TimeUnit.SECONDS), "the TTL node is not created");
            equal(text(two.getData().forPath("/curator/ttl")), "kept");
            eventually(() -> two.checkExists().forPath("/curator/ttl/touch") != null, "the node is touched");
        }
        eventually(() -> two.checkExists().forPath("/curator/ttl") == null, "the node that nobody touches goes");
    }

    private interface Condition {
        boolean holds() throws Exception;
    }

    private static void eventually(Condition condition, String what) throws Exception {
        long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(DEADLINE_SECONDS);
        while (!condition.holds()) {
            check(System.nanoTime() < until, "did not happen: " + what);
            Thread.sleep(10);
        }
    }

    private static void inThreads(List<Callable<Void>> workers) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(workers.size());
        List<Future<Void>> results = threads.invokeAll(workers, 2 * DEADLINE_SECONDS, TimeUnit.SECONDS);
        for (Future<Void> result : results) {
            result.get();
        }
        threads.shutdown();
    }

    private static void equal(Object found, Object expected) {
        check(Objects.equals(found, expected), "expected " + expected + ", found " + found);
    }

    private static void check(boolean holds, String complaint) {
        if (!holds) {
            throw new AssertionError(complaint);
        }
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String text(byte[] bytes) {
        return new String(bytes, StandardCharsets.UTF_8);
    }
}
