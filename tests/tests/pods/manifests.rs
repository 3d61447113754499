//! Pods that ask for much, that serve, and that misbehave.

/// A pod of every kind of container and source, and what it refers to.
const ASKING: &str = r"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue, 'file.txt': content}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden}
stringData: {word: sesame}
---
apiVersion: v1
kind: Pod
metadata: {name: everything, labels: {app: everything}}
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
  - name: first
    image: busybox:test
    imagePullPolicy: Never
    command: [sh, -c, 'echo made > /scratch/by-init']
    volumeMounts: [{name: scratch, mountPath: /scratch}]
  - name: side
    image: busybox:test
    imagePullPolicy: Never
    restartPolicy: Always
    command: [sh, -c, 'trap exit TERM; sleep 3600 & wait']
  containers:
  - name: c
    image: busybox:test
    imagePullPolicy: Never
    command: [sh, -c, 'env; cat /scratch/by-init /settings/file.txt /hidden/word; ls /var/run/secrets/kubernetes.io/serviceaccount; cat /etc/info/labels; echo; touch /tmp/ready; exec sleep 3600']
    env:
    - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
    - {name: WORD, valueFrom: {secretKeyRef: {name: hidden, key: word}}}
    - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: BOTH, value: '$(COLOUR)-$(WORD)'}
    lifecycle:
      postStart: {exec: {command: [touch, /scratch/hooked]}}
    readinessProbe: {exec: {command: [cat, /tmp/ready]}, periodSeconds: 1}
    resources: {limits: {memory: 64Mi, cpu: 500m}}
    volumeMounts:
    - {name: scratch, mountPath: /scratch}
    - {name: settings, mountPath: /settings}
    - {name: hidden, mountPath: /hidden, readOnly: true}
    - {name: info, mountPath: /etc/info}
  volumes:
  - {name: scratch, emptyDir: {}}
  - {name: settings, configMap: {name: settings}}
  - {name: hidden, secret: {secretName: hidden}}
  - name: info
    downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}
";

const SERVING: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: nginx:test
    imagePullPolicy: Never
    ports: [{containerPort: 80, hostPort: 8081}]
    readinessProbe: {httpGet: {port: 80}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, nodePort: 30080}]
";

const MISBEHAVING: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: hungry}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: busybox:test
    imagePullPolicy: Never
    command: [sh, -c, 'x=a; while true; do x=$x$x; done']
    resources: {limits: {memory: 32Mi}, requests: {memory: 16Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: unstartable}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: 'busybox:test', imagePullPolicy: Never, command: [/no/such/program]}
---
apiVersion: v1
kind: Pod
metadata: {name: job}
spec:
  restartPolicy: Never
  containers:
  - {name: c, image: 'busybox:test', imagePullPolicy: Never, command: [sh, -c, 'echo last words > /dev/termination-log; exit 3']}
";

/// All of them.
pub fn all() -> String {
    [ASKING, SERVING, MISBEHAVING].join("---")
}
