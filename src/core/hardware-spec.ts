/** The devices and habits of the machine that a guest may care about; what is said here never depends on the host. */
export interface HardwareSpec {
  /** Whether a guest under KVM is offered Hyper-V's interfaces, by which Windows idles, sleeps and keeps time cheaply. */
  readonly hyperv: boolean;
  /** What the battery-backed clock shows; Windows takes it for local time. */
  readonly clock: 'utc' | 'localtime';
  /** With a screen come a USB tablet, VNC on a unix socket and screenshots. */
  readonly video: VideoModel;
  readonly diskBus: DiskBus;
  readonly nicModel: NicModel;
  readonly onIoError: IoErrorPolicy;
  /** What happens when the guest does not serve its watchdog in time; undefined without one. */
  readonly watchdog: WatchdogAction | undefined;
}

export type VideoModel = 'none' | 'std' | 'virtio';
export type DiskBus = 'virtio' | 'scsi' | 'sata' | 'usb';
export type NicModel = 'virtio' | 'e1000e' | 'rtl8139';
/** `stop`: the guest waits until its disk works again. `report`: it sees errors, but a full host stops it all the same. */
export type IoErrorPolicy = 'stop' | 'report';
/** `reset` is the guest's reset, which follows its policy of reboots. */
export type WatchdogAction = 'reset' | 'pause' | 'nmi' | 'none';
