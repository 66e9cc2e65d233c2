_base_ = ["base/schedule.py"]
model = dict(type="TinyNet", channels=12, head=dict(dropout_ratio=0.2, label_smooth_val=0.1))
data = dict(samples_per_gpu=64, workers_per_gpu=0)
optimizer = dict(lr=0.05)
