# A policy can use every interface of ours.
cp -r /with/packaging/selinux /tmp/selinux
cd /tmp/selinux
cat > consumer.te <<'END'
policy_module(consumer, 1.0)
type consumer_t;
domain_type(consumer_t)
type consumer_run_t;
files_type(consumer_run_t)
passt_domtrans(consumer_t)
passt_kill(consumer_t)
END
for interface in socket_dir socket_create socket_use socket_delete logfile_dir logfile_use pidfile_dir \
	pidfile_write pidfile_read pidfile_delete; do
	grep -q "^interface(\`passt_$interface'" passt.if
	echo "passt_$interface(consumer_t, consumer_run_t)" >> consumer.te
done
make -f /usr/share/selinux/devel/Makefile NAME=default consumer.pp passt.pp
test -s consumer.pp
