// The life of an instance as eureka-js-client leads it: registered, found by another, renewed, out of service, back, registered again, gone.
//
// Called with the address of a registry, host:port, and `deltas` where the one who looks is to ask for changes only.
'use strict';

const { Eureka } = require('eureka-js-client');

const [host, port] = process.argv[2].split(':');
const shouldUseDelta = process.argv[3] === 'deltas';
const LEASE_S = 15;

function client(app, number, heartbeatInterval) {
  const quiet = () => {};
  return new Eureka({
    logger: { debug: quiet, info: quiet, warn: quiet, error: console.error },
    shouldUseDelta,
    eureka: { host, port, servicePath: '/eureka/apps/', heartbeatInterval, registryFetchInterval: 200 },
    instance: {
      app, instanceId: `127.0.0.1:${app}:${number}`, hostName: '127.0.0.1', ipAddr: '127.0.0.1', vipAddress: app,
      port: { $: number, '@enabled': true },
      dataCenterInfo: { '@class': 'com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo', name: 'MyOwn' },
      leaseInfo: { renewalIntervalInSecs: 1, durationInSecs: LEASE_S },
    },
  });
}

const called = (does) => new Promise((done, failed) => does((error, answer) => (error ? failed(error) : done(answer))));

// Whoever started this program ends it after a while.
async function until(what, holds) {
  while (!holds()) await new Promise((done) => setTimeout(done, 20));
  console.log('ok:', what);
}

// What a client knows of an application. Without deltas it keeps only what is UP, with deltas also what was once.
const statuses = (of, app) => of.getInstancesByVipAddress(app).map((instance) => instance.status).join();

async function request(by, method, uri, status) {
  const answer = await called((done) => by.eurekaRequest({ method, uri }, done));
  if (answer.statusCode !== status) throw new Error(`${method} ${uri} is answered ${answer.statusCode}`);
}

(async () => {
  const [orders, mute, pay] = [client('orders', 8080, 1000), client('mute', 8081, 1 << 30), client('pay', 8082, 1000)];
  let registrations = 0;
  orders.on('registered', () => { registrations += 1; });
  for (const one of [orders, mute, pay]) await called((done) => one.start(done));
  await until('found by another', () => statuses(pay, 'orders') === 'UP' && statuses(pay, 'mute') === 'UP');

  // The silent instance registered later, and its lease is as long.
  await until('renewed', () => {
    if (statuses(pay, 'orders') !== 'UP') throw new Error('an instance that sends heartbeats is gone');
    return statuses(pay, 'mute') === '';
  });
  // Whoever was removed meanwhile is told so by the next heartbeat, and registers again.
  for (let beats = 0; beats < 2; beats += 1) await new Promise((done) => orders.once('heartbeat', done));
  if (registrations !== 1) throw new Error(`an instance that sends heartbeats registered ${registrations} times`);

  const id = `orders/${orders.instanceId}`;
  await request(pay, 'PUT', `${id}/status?value=OUT_OF_SERVICE`, 200);
  await until('out of service', () => statuses(pay, 'orders') === (shouldUseDelta ? 'OUT_OF_SERVICE' : ''));
  await request(pay, 'DELETE', `${id}/status?value=UP`, 200);
  await until('back', () => statuses(pay, 'orders') === 'UP');

  // Its next heartbeat is answered 404.
  const registered = new Promise((done) => orders.once('registered', done));
  await request(pay, 'DELETE', id, 200);
  await registered;
  await until('registered again', () => statuses(pay, 'orders') === 'UP');

  await called((done) => orders.stop(done));
  await until('gone', () => statuses(pay, 'orders') === '');
  await called((done) => pay.stop(done));
  await called((done) => mute.stop(() => done()));
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
